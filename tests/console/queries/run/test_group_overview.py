"""The page of the groups reads no entries and waits for no heartbeat."""

import pytest
from redis.asyncio import Redis

from console.queries.run.group_overview import read_consumers, read_overview
from stream.keys import Shard
from tests.support.streams.retention import add, group, register
from worker.dispatch.pause import pause_by_hand
from worker.group.group_ref import GroupRef


async def test_each_group_has_its_open_work_and_its_pause(server: Redis, shard: Shard) -> None:
    """Registered, missing and foreign groups are listed with the entries that they keep."""
    await add(server, shard, range(1000, 2000))
    await group(server, shard, "done", read=1000)
    await group(server, shard, "slow", read=500, ack=400)
    await group(server, shard, "foreign")
    await register(server, shard, "done", "slow", "missing")
    await server.zadd(shard.delayed("slow"), {"a": 1, "b": 2})
    for key in (shard.retry("slow"), shard.replay("slow"), shard.dead("slow")):
        await server.xadd(key, {"a": "b"})
    await pause_by_hand(GroupRef(server, shard, "slow"), "ida", "receiver is down")
    done, foreign, missing, slow = await read_overview(server, [shard])
    assert [item.position.name for item in (done, foreign, missing, slow)] == ["done", "foreign", "missing", "slow"]
    assert (done.kept.entries, done.kept.exact, done.kept.seconds, done.outstanding) == (0, True, None, 0)
    assert (foreign.kept.entries, foreign.position.registered) == (1000, False)
    assert (missing.outstanding, missing.position.exists) == (None, False)
    assert (slow.delayed, slow.retries, slow.replays, slow.dead, slow.outstanding) == (2, 1, 1, 1, 604)
    assert slow.pause is not None
    assert (slow.pause.person, slow.pause.why) == ("ida", "receiver is down")
    assert slow.kept.entries == pytest.approx(600, rel=0.02)
    assert not slow.kept.exact
    assert 0 < slow.kept.bytes < foreign.kept.bytes


async def test_entries_behind_an_old_pending_one_are_kept_too(server: Redis, shard: Shard) -> None:
    """One entry that is pending from the start keeps the whole stream, though only one is open."""
    await add(server, shard, range(1000, 2000))
    ids = await group(server, shard, "g", read=1000, ack=0)
    await server.xack(shard.stream, "g", *ids[1:])
    (overview,) = await read_overview(server, [shard])
    assert (overview.outstanding, overview.kept.entries, overview.kept.exact) == (1, 1000, False)


async def test_a_stream_that_does_not_exist_has_no_groups(server: Redis, shard: Shard) -> None:
    """Nothing is created by reading."""
    assert await read_overview(server, [shard]) == []
    assert await read_consumers(server, [shard], "g") == []
    assert [key async for key in server.scan_iter(f"{shard.name}*")] == []


async def test_consumers_of_all_streams_are_added_up(server: Redis, shard: Shard) -> None:
    """A consumer without a heartbeat is dead, one that has read lately is alive; those with most pending go first."""
    await add(server, shard, range(1, 11))
    await group(server, shard, "g")
    await server.xgroup_create(shard.retry("g"), "g", id="0", mkstream=True)
    await server.xadd(shard.retry("g"), {"a": "b"})
    await server.xreadgroup("g", "gone", {shard.stream: ">"}, count=4)
    await server.xreadgroup("g", "here", {shard.stream: ">"}, count=1)
    await server.xreadgroup("g", "here", {shard.retry("g"): ">"}, count=1)
    await server.hset(shard.alive("g"), mapping={"here": "7", "new": "1"})
    consumers = await read_consumers(server, [shard], "g")
    assert [(item.name, item.pending, item.is_alive) for item in consumers] == [
        ("gone", 4, False),
        ("here", 2, True),
        ("new", 0, True),
    ]
