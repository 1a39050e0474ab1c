"""The number that autoscalers ask for is exact, or an error."""

import time

import pytest
from redis.asyncio import Redis

from console.queries.run import outstanding
from console.queries.run.outstanding import InexactCount, UnknownGroup, count_outstanding
from stream.keys import Shard
from tests.support.streams.retention import add, group, register


async def test_work_that_is_due_counts(server: Redis, shard: Shard) -> None:
    """Unread, pending, due and replayed entries count; later retries and dead letters do not."""
    await add(server, shard, range(1, 11))
    await group(server, shard, "g", read=5, ack=2)
    await register(server, shard, "g")
    now_ms = time.time() * 1000
    await server.zadd(shard.delayed("g"), {"due": now_ms - 1000, "later": now_ms + 600_000, "odd": now_ms + 10**12})
    for key in (shard.retry("g"), shard.replay("g"), shard.replay("g"), shard.dead("g")):
        await server.xadd(key, {"a": "b"})
    assert await count_outstanding(server, [shard], "g") == 5 + 3 + 2 + 1 + 2


async def test_a_group_without_a_stream_has_no_work(server: Redis, shard: Shard) -> None:
    """Before the first webhook the number is 0; an unknown group is an error."""
    await register(server, shard, "g")
    assert await count_outstanding(server, [shard], "g") == 0
    with pytest.raises(UnknownGroup):
        await count_outstanding(server, [shard], "nobody")


async def test_a_missing_group_has_no_number(server: Redis, shard: Shard) -> None:
    """A registered group that is not on the stream will be created at a place that is not known here."""
    await add(server, shard, [1])
    await register(server, shard, "g")
    with pytest.raises(InexactCount):
        await count_outstanding(server, [shard], "g")


async def test_without_the_lag_entries_are_counted_up_to_a_limit(
    server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis reports no lag after entries were deleted: few unread entries are counted, many are an error."""
    await add(server, shard, range(1, 11))
    await group(server, shard, "g", read=2)
    await register(server, shard, "g")
    await server.xdel(shard.stream, "5-0")
    (position,) = await server.xinfo_groups(shard.stream)
    assert position["lag"] is None
    assert await count_outstanding(server, [shard], "g") == 7
    monkeypatch.setattr(outstanding, "COUNTED_AT_MOST", 7)
    with pytest.raises(InexactCount):
        await count_outstanding(server, [shard], "g")


async def test_shards_are_added_up(server: Redis, shard: Shard) -> None:
    """The number is the sum of all shards; a shard without the group adds nothing."""
    second = Shard(shard.name, 1)
    for part in (shard, second):
        await add(server, part, range(1, 4))
        await group(server, part, "g")
        await register(server, part, "g")
    assert await count_outstanding(server, [shard, second, Shard(shard.name, 2)], "g") == 6
