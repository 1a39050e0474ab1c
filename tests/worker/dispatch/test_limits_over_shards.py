"""The limits of a group that has several shards."""

from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard
from worker.dispatch.backlog import Backlog
from worker.dispatch.pause import Pause, PauseReason
from worker.group.group_ref import GroupRef


async def add_dead(server: Redis, shard: Shard, letters: int) -> None:
    for _ in range(letters):
        fields: Any = {b"payload": b"x" * 1000}
        await server.xadd(shard.dead("g"), fields)


async def read_reason(pause: Pause) -> str | None:
    await pause.refresh()
    return pause.reason


async def test_dead_letters_and_bytes_of_all_shards_count(server: Redis, shard: Shard) -> None:
    """The group is paused at the sum of its dead letters, and its backlog is the sum of their bytes."""
    shards = [Shard(shard.name, number) for number in range(2)]
    home = GroupRef(server, shards[0], "g")
    pause, backlog = Pause(home, 4, shards=shards), Backlog(home, shards=shards)
    await add_dead(server, shards[0], 1)
    await add_dead(server, shards[1], 2)
    assert await read_reason(pause) is None

    await add_dead(server, shards[1], 3)
    assert await read_reason(pause) == PauseReason.DEAD_LETTERS
    assert await server.exists(shards[0].paused("g"), shards[1].paused("g")) == 1

    parts = [Backlog(GroupRef(server, each, "g")) for each in shards]
    for each in (backlog, *parts):
        await each.measure()
    assert backlog.bytes == sum(part.bytes for part in parts)
    assert all(part.bytes for part in parts)

    await server.delete(shards[1].dead("g"))
    assert await read_reason(pause) is None
