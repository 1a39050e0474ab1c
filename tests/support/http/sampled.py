"""A sampler of the console, with its own database."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from console.web.database import open_console_database
from console.web.sampling.sampler import Sampler, run_sampler
from console.web.sampling.snapshot import Snapshot
from console.web.settings import ConsoleSettings
from stream.keys import Shard
from stream.redis.client import client
from stream.shard_watch import ShardWatch
from tests.support.waiting import until
from worker.store.database import open_engine


@asynccontextmanager
async def sampling(
    redis_url: str, shard: Shard, folder: Path, admin_ports: Sequence[int] = ()
) -> AsyncIterator[Sampler]:
    """Sample this stream, and the processes on these ports, while the block runs."""
    scrape = ",".join(f"http://127.0.0.1:{port}" for port in admin_ports)
    settings = ConsoleSettings(redis_url=redis_url, stream=shard.name, data=folder, console_scrape=scrape)
    server = client(redis_url)
    engine = open_engine(settings.database_url, read_only=True)
    watch = ShardWatch(server, settings, creates=False)
    try:
        async with (
            open_console_database(settings.console_database) as database,
            run_sampler(settings, server, watch.find_shards, engine, database) as sampler,
        ):
            yield sampler
    finally:
        await engine.dispose()
        await server.aclose()


async def next_moments(sampler: Sampler, count: int = 2) -> None:
    """Wait for further snapshots."""
    for _ in range(count):
        before = sampler.latest

        async def is_next(before: Snapshot = before) -> bool:
            return sampler.latest is not before

        await until(is_next)
