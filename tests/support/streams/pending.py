"""Entries that a group has read and not acked."""

from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard
from worker.sources import Source, streams

FIELDS: dict[Any, Any] = {b"v": b"1", b"payload": b"\x00\xff"}


async def make_group(server: Redis, shard: Shard, entries: int) -> None:
    """Make the group `g` on each of its streams, and append entries to the live stream."""
    for stream in streams(shard, "g").values():
        await server.xgroup_create(stream, "g", "0", mkstream=True)
    for n in range(entries):
        await server.xadd(shard.stream, {b"n": b"%d" % n})


async def count_pending(server: Redis, shard: Shard, source: Source = Source.LIVE) -> int:
    """Count the pending entries of group `g`."""
    return int((await server.xpending(streams(shard, "g")[source], "g"))["pending"])


async def read_new_entries(server: Redis, shard: Shard, entries: int, source: Source = Source.LIVE) -> list[bytes]:
    """Append entries, read them as a consumer of group `g`, and return their ids."""
    stream = streams(shard, "g")[source]
    await server.xgroup_create(stream, "g", "0", mkstream=True)
    async with server.pipeline(transaction=False) as pipe:
        for _ in range(entries):
            pipe.xadd(stream, FIELDS)
        pipe.xreadgroup("g", "c", {stream: ">"})
        reply: Any = (await pipe.execute())[-1]
    return [entry_id for entry_id, _ in reply[0][1]]
