from typing import Any

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from stream.redis.errors import GroupGone
from worker.group.consumer_group import ConsumerGroup, read_group_names
from worker.group.group_ref import GroupRef


async def add(server: Redis, shard: Shard, *ids: str) -> None:
    for entry_id in ids:
        await server.xadd(shard.stream, {b"n": entry_id}, id=entry_id)


async def read(server: Redis, shard: Shard, count: int = 100) -> list[bytes]:
    """What the group gets to read next."""
    reply: Any = await server.xreadgroup("g", "c", {shard.stream: ">"}, count=count)
    return [entry_id for entry_id, _ in reply[0][1]] if reply else []


async def test_a_new_group_is_registered_and_starts_at_the_beginning(server: Redis, shard: Shard) -> None:
    """What was appended before the group existed is read; making it again is harmless."""
    await add(server, shard, "1-0")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    await group.ensure()
    assert await read_group_names(server, shard) == ["g"]
    assert await read(server, shard) == [b"1-0"]


async def test_a_lost_group_is_made_again_at_its_checkpoint(server: Redis, shard: Shard) -> None:
    """What was settled is not read again, what was pending or unread is: nothing is passed by."""
    await add(server, shard, "1-0", "2-0", "3-0", "4-0")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    first, *_ = await read(server, shard, 3)
    await server.xack(shard.stream, "g", first)
    await group.save_checkpoint()
    await server.xgroup_destroy(shard.stream, "g")
    await group.ensure()
    assert await read(server, shard) == [b"2-0", b"3-0", b"4-0"]


async def test_with_nothing_pending_the_checkpoint_is_what_was_delivered_last(server: Redis, shard: Shard) -> None:
    """After everything is acked the group made again reads only what is new."""
    await add(server, shard, "1-0", "2-5")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    await server.xack(shard.stream, "g", *await read(server, shard))
    await group.save_checkpoint()
    assert await server.get(shard.checkpoint("g")) == b"2-5"
    await server.xgroup_destroy(shard.stream, "g")
    await add(server, shard, "3-0")
    await group.ensure()
    assert await read(server, shard) == [b"3-0"]


@pytest.mark.parametrize("ids", [[], ["1-0"]])
async def test_a_stream_younger_than_the_checkpoint_is_read_from_its_beginning(
    server: Redis, shard: Shard, ids: list[str]
) -> None:
    """A stream that was deleted (and begun again by a clock that went back) hides nothing behind an old checkpoint."""
    await add(server, shard, "5-0")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    await server.xack(shard.stream, "g", *await read(server, shard))
    await group.save_checkpoint()
    await server.delete(shard.stream)
    await add(server, shard, *ids)
    await group.ensure()
    await add(server, shard, "2-0")
    assert await read(server, shard) == [*(entry_id.encode() for entry_id in ids), b"2-0"]


async def noted(server: Redis, shard: Shard) -> bytes | None:
    """The group's checkpoint."""
    found: Any = await server.get(shard.checkpoint("g"))
    return bytes(found) if found else None


async def test_a_missing_group_s_checkpoint_stays_as_it_is(server: Redis, shard: Shard) -> None:
    """A group that is destroyed while its progress is noted keeps the old note: zero would repeat everything."""
    await add(server, shard, "1-0", "2-0")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    await server.xack(shard.stream, "g", *await read(server, shard))
    await group.save_checkpoint()
    await server.xgroup_destroy(shard.stream, "g")
    with pytest.raises(GroupGone):
        await group.save_checkpoint()
    await server.delete(shard.stream)
    with pytest.raises(GroupGone):
        await group.save_checkpoint()
    assert await noted(server, shard) == b"2-0"


async def test_a_group_beyond_its_stream_is_put_back(server: Redis, shard: Shard) -> None:
    """It would pass by all that comes, without an error; its progress is not noted while it stands there."""
    await add(server, shard, "1-0", "2-0", "3-0")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    await server.xack(shard.stream, "g", *await read(server, shard, 1))
    await group.save_checkpoint()
    await server.xgroup_setid(shard.stream, "g", "4-0")
    with pytest.raises(GroupGone):
        await group.save_checkpoint()
    await group.ensure()
    assert await noted(server, shard) == b"1-0"
    assert await read(server, shard) == [b"2-0", b"3-0"]


@pytest.mark.parametrize("where", ["0", "2-0", "3-0"])
async def test_a_group_that_was_moved_within_its_stream_stays_there(server: Redis, shard: Shard, where: str) -> None:
    """Whoever moves a group by hand, to its stream's end or back, means it."""
    await add(server, shard, "1-0", "2-0", "3-0")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    await server.xgroup_setid(shard.stream, "g", where)
    await group.ensure()
    await group.save_checkpoint()
    assert (await noted(server, shard) or b"").partition(b"-")[0] == where.encode().partition(b"-")[0]


@pytest.mark.parametrize(
    ("pending", "checkpoint"),
    [
        ("5-3", "5-2"),
        ("5-0", "4-18446744073709551615"),
        ("0-1", "0-0"),
        ("1764000000000-0", "1763999999999-18446744073709551615"),
        ("1234567890123456789-0", "0-18446744073709551615"),
        ("5-1234567890123456789", "5-0"),
    ],
)
async def test_the_checkpoint_stands_before_the_oldest_pending_entry(
    server: Redis, shard: Shard, pending: str, checkpoint: str
) -> None:
    """By the greatest id before it, or where numbers get too large for Lua, by one that is early enough."""
    await add(server, shard, pending)
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    await read(server, shard)
    await group.save_checkpoint()
    assert await noted(server, shard) == checkpoint.encode()


async def test_a_group_is_made_on_a_full_server_too(server: Redis, shard: Shard) -> None:
    """Reading and acking free memory in the end; so what a full server has lost must come back."""
    await add(server, shard, "1-0")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await server.config_set("maxmemory", 1)
    try:
        await group.ensure()
        await server.xack(shard.stream, "g", *await read(server, shard))
        await group.save_checkpoint()
    finally:
        await server.config_set("maxmemory", "1gb")
    assert await noted(server, shard) == b"1-0"
