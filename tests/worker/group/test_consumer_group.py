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
    """Return the entries that the group reads next."""
    reply: Any = await server.xreadgroup("g", "c", {shard.stream: ">"}, count=count)
    return [entry_id for entry_id, _ in reply[0][1]] if reply else []


async def test_a_new_group_is_registered_and_reads_from_the_start(server: Redis, shard: Shard) -> None:
    """A new group reads entries that were appended before; a second ``ensure`` changes nothing."""
    await add(server, shard, "1-0")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    await group.ensure()
    assert await read_group_names(server, shard) == ["g"]
    assert await read(server, shard) == [b"1-0"]


async def test_a_lost_group_is_created_at_its_checkpoint(server: Redis, shard: Shard) -> None:
    """A group that is created again repeats no settled entry and skips no other one."""
    await add(server, shard, "1-0", "2-0", "3-0", "4-0")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    first, *_ = await read(server, shard, 3)
    await server.xack(shard.stream, "g", first)
    await group.save_checkpoint()
    await server.xgroup_destroy(shard.stream, "g")
    await group.ensure()
    assert await read(server, shard) == [b"2-0", b"3-0", b"4-0"]


async def test_with_nothing_pending_the_checkpoint_is_the_last_delivered_id(server: Redis, shard: Shard) -> None:
    """Once all entries are acked, a group that is created again reads only new ones."""
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
async def test_a_stream_newer_than_the_checkpoint_is_read_from_its_start(
    server: Redis, shard: Shard, ids: list[str]
) -> None:
    """If a stream is newer than the checkpoint, the group reads it from its first entry."""
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


async def read_checkpoint(server: Redis, shard: Shard) -> bytes | None:
    """Return the group's checkpoint."""
    checkpoint: Any = await server.get(shard.checkpoint("g"))
    return bytes(checkpoint) if checkpoint else None


async def test_a_missing_group_saves_no_checkpoint(server: Redis, shard: Shard) -> None:
    """A missing group saves no checkpoint: zero would repeat all entries."""
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
    assert await read_checkpoint(server, shard) == b"2-0"


async def test_a_group_beyond_its_stream_is_put_back(server: Redis, shard: Shard) -> None:
    """A group beyond its stream is moved back, and saves no checkpoint there: it would skip new entries."""
    await add(server, shard, "1-0", "2-0", "3-0")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    await server.xack(shard.stream, "g", *await read(server, shard, 1))
    await group.save_checkpoint()
    await server.xgroup_setid(shard.stream, "g", "4-0")
    with pytest.raises(GroupGone):
        await group.save_checkpoint()
    await group.ensure()
    assert await read_checkpoint(server, shard) == b"1-0"
    assert await read(server, shard) == [b"2-0", b"3-0"]


@pytest.mark.parametrize("where", ["0", "2-0", "3-0"])
async def test_a_group_that_was_moved_within_its_stream_stays_there(server: Redis, shard: Shard, where: str) -> None:
    """A group that an operator moved within its stream stays there."""
    await add(server, shard, "1-0", "2-0", "3-0")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    await server.xgroup_setid(shard.stream, "g", where)
    await group.ensure()
    await group.save_checkpoint()
    assert (await read_checkpoint(server, shard) or b"").partition(b"-")[0] == where.encode().partition(b"-")[0]


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
async def test_the_checkpoint_is_before_the_oldest_pending_entry(
    server: Redis, shard: Shard, pending: str, checkpoint: str
) -> None:
    """The checkpoint is the greatest id before the oldest pending entry, or an earlier one for huge numbers."""
    await add(server, shard, pending)
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await group.ensure()
    await read(server, shard)
    await group.save_checkpoint()
    assert await read_checkpoint(server, shard) == checkpoint.encode()


async def test_a_full_server_still_creates_a_group(server: Redis, shard: Shard) -> None:
    """A missing group is created while Redis is out of memory, because acks let retention free memory."""
    await add(server, shard, "1-0")
    group = ConsumerGroup(GroupRef(server, shard, "g"))
    await server.config_set("maxmemory", 1)
    try:
        await group.ensure()
        await server.xack(shard.stream, "g", *await read(server, shard))
        await group.save_checkpoint()
    finally:
        await server.config_set("maxmemory", "1gb")
    assert await read_checkpoint(server, shard) == b"1-0"
