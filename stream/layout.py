"""The layout of a stream: how many shards it has. Redis has it on shard 0, in a key that all processes read.

Ingest appends to the shards *in use*. Workers and commands read all *known* shards: lowering the number takes shards
out of use, and they stay known with their entries, retries and dead letters. The setting ACKSTREAM_SHARDS gives the
number for the first start; from then on the layout in Redis counts.
"""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from stream.keys import Shard
from stream.redis.scripts import read_script
from stream.settings import StreamSettings

CHANGE = read_script(__file__, "change_layout.lua")

_TEXT = re.compile(rb"([1-9]\d{0,2}) ([1-9]\d{0,2}) (\d{1,15})(?: .*)?", re.ASCII)  # a later version may add fields


@dataclass(frozen=True, slots=True)
class Layout:
    """How many shards ingest appends to, how many may hold entries, and when that changed."""

    used: int = 1
    known: int = 1
    changed_ms: int = 0

    @classmethod
    def parse(cls, text: bytes) -> Self | None:
        """Decode the value of the key; None for another text."""
        match = _TEXT.fullmatch(text)
        return None if match is None else cls(*map(int, match.groups()))

    def shards(self, name: str) -> list[Shard]:
        """Return the known shards of the stream with this name."""
        return [Shard(name, number) for number in range(self.known)]


async def read_layout(server: Redis, settings: StreamSettings) -> Layout:
    """Return the layout; one shard if Redis has none yet. Raises RedisError."""
    text: Any = await server.get(settings.shard.layout)
    return Layout.parse(text or b"") or Layout()


async def ensure_layout(server: Redis, settings: StreamSettings) -> Layout:
    """Return the layout, and first write the one of the settings if Redis has none. Raises RedisError."""
    if await server.get(settings.shard.layout) is None:
        first = f"{settings.shards} {settings.shards} {time.time_ns() // 1_000_000}"
        with suppress(OutOfMemoryError):  # a full server must not stop a worker; a later call writes it
            await server.setnx(settings.shard.layout, first)
    return await read_layout(server, settings)


async def change_layout(server: Redis, settings: StreamSettings, used: int | None = None, *, known: int = 1) -> Layout:
    """Set the number of shards in use, and the least number of known ones; return the layout. Raises RedisError.

    Without ``used`` that number stays as it is on the server at this moment.
    """
    await server.register_script(CHANGE)(keys=[settings.shard.layout], args=["" if used is None else used, known])
    return await read_layout(server, settings)
