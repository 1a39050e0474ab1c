"""Reads Redis, the processes and the database each second, for all viewers of the console."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiosqlite import Connection
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from console.web.sampling.snapshot import RedisSample, Snapshot, Totals
from console.web.settings import ConsoleSettings


class Sampler:
    """The latest snapshot."""

    def __init__(self) -> None:
        now = time.time()
        self.latest = Snapshot(now, now, RedisSample(), {}, (), (), (), False, None, Totals())


@asynccontextmanager
async def run_sampler(
    _settings: ConsoleSettings, _server: Redis, _engine: AsyncEngine, _database: Connection
) -> AsyncIterator[Sampler]:
    """Yield a sampler that runs until the block ends."""
    yield Sampler()
