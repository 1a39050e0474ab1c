"""Builds streams to trim: entries of any age, and groups that have read and acked some of them."""

import asyncio
from collections.abc import Iterable
from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard
from stream.redis import client as connect
from worker.retention.archive_writer import Archive
from worker.retention.pages import raw_ranges
from worker.retention.policy import RetentionPolicy
from worker.retention.trimmer import Trimmer

DAY_MS = 86_400_000
OLD = RetentionPolicy(DAY_MS, 1024**3, together=False)
LARGE_BYTES = 5_000
LARGE = RetentionPolicy(36_500 * DAY_MS, LARGE_BYTES, together=False)


async def add(server: Redis, shard: Shard, ids: Iterable[int | str], payload: bytes = b"x" * 500) -> list[bytes]:
    """Append an entry for each id or millisecond. The ids of tests are in 1970, so the entries are old."""
    async with server.pipeline(transaction=False) as pipe:
        for entry_id in ids:
            pipe.xadd(shard.stream, {b"payload": payload}, id=entry_id)
        entry_ids: list[bytes] = await pipe.execute()
    return entry_ids


async def read_ids(server: Redis, shard: Shard) -> list[bytes]:
    """Return the ids of all entries on the stream."""
    entries: Any = await server.xrange(shard.stream)
    return [entry_id for entry_id, _ in entries]


async def register(server: Redis, shard: Shard, *names: str) -> None:
    await server.sadd(shard.groups, *names)


async def group(server: Redis, shard: Shard, name: str, *, read: int = 0, ack: int | None = None) -> list[bytes]:
    """Make a group that reads the first entries and acks some of them, by default all. Return the ids that it read."""
    await server.xgroup_create(shard.stream, name, id="0", mkstream=True)
    if not read:
        return []
    reply: Any = await server.xreadgroup(name, "c", {shard.stream: ">"}, count=read)
    ids = [entry_id for entry_id, _ in reply[0][1]]
    if acked := ids[:ack]:
        await server.xack(shard.stream, name, *acked)
    return ids


async def trim_once(url: str, shard: Shard, retention: RetentionPolicy, archive: Archive | None = None) -> None:
    """Trim all entries that are due."""
    async with raw_ranges(connect.client(url)) as client:
        await Trimmer(client, shard, retention, archive).run_once(asyncio.Event())
        await client.pexpire(shard.trimmer, 0)
