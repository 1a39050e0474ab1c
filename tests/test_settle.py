from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream.keys import Shard
from worker.settle import Burial, Settler

FIELDS: dict[Any, Any] = {b"v": b"1", b"payload": b"\x00\xff"}


async def pending(server: Redis, shard: Shard, entries: int) -> list[bytes]:
    """Entries read by a consumer of group g."""
    await server.xgroup_create(shard.stream, "g", "0", mkstream=True)
    for _ in range(entries):
        await server.xadd(shard.stream, FIELDS)
    reply: Any = await server.xreadgroup("g", "c", {shard.stream: ">"})
    return [entry_id for entry_id, _ in reply[0][1]]


def burial(entry_id: bytes) -> Burial:
    return Burial(entry_id, dict(FIELDS), "invalid-status", "no message_uuid")


async def left(server: Redis, shard: Shard) -> int:
    return int((await server.xpending(shard.stream, "g"))["pending"])


async def test_acked_entries_are_no_longer_pending(server: Redis, shard: Shard) -> None:
    """To ack ends just these entries."""
    ids = await pending(server, shard, 3)
    await Settler(server, shard, "g").ack(ids[:2])
    assert await left(server, shard) == 1


async def test_a_buried_entry_is_a_dead_letter_with_its_bytes_and_the_reason(server: Redis, shard: Shard) -> None:
    """The copy has every field as it was read, and origin, attempt and error; the entry is no longer pending."""
    ids = await pending(server, shard, 2)
    assert await Settler(server, shard, "g").bury([burial(ids[0])]) == 1
    ((_, dead),) = await server.xrange(shard.dead("g"))  # type: ignore[misc]
    note = {b"origin": b"0/" + ids[0], b"attempt": b"1", b"error": b"invalid-status: no message_uuid"}
    assert dead == FIELDS | note
    assert await left(server, shard) == 1


async def test_a_repeated_or_late_burial_changes_nothing(server: Redis, shard: Shard) -> None:
    """Only who ends the entry leaves a dead letter: not the second time, and not after an ack by somebody else."""
    ids = await pending(server, shard, 2)
    settler = Settler(server, shard, "g")
    await settler.ack([ids[1]])
    assert await settler.bury([burial(entry_id) for entry_id in ids]) == 1
    assert await settler.bury([burial(entry_id) for entry_id in ids]) == 0
    assert await server.xlen(shard.dead("g")) == 1


async def test_a_burial_that_fails_in_the_middle_leaves_the_entry_pending(server: Redis, shard: Shard) -> None:
    """When the dead letter cannot be written (here: its key is of another type) the entry is not acked."""
    ids = await pending(server, shard, 1)
    await server.set(shard.dead("g"), "in the way")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await Settler(server, shard, "g").bury([burial(ids[0])])
    assert await left(server, shard) == 1


async def test_without_its_group_nothing_is_buried(server: Redis, shard: Shard) -> None:
    """A group that is gone acks nothing, so no dead letter is left either."""
    ids = await pending(server, shard, 1)
    await server.xgroup_destroy(shard.stream, "g")
    assert await Settler(server, shard, "g").bury([burial(ids[0])]) == 0
    assert await server.xlen(shard.dead("g")) == 0


async def test_an_entry_of_more_fields_than_a_script_can_take_is_buried_with_the_first(
    server: Redis, shard: Shard
) -> None:
    """No entry of ours; it must not hold up its group. The dead letter says how many fields it lacks."""
    crowd: dict[Any, Any] = FIELDS | {b"field-%d" % number: b"x" for number in range(20_000)}
    ids = await pending(server, shard, 1)
    crowded = Burial(ids[0], crowd, "invalid-entry", "it has 20000 unknown fields")
    assert await Settler(server, shard, "g").bury([crowded, crowded]) == 1
    ((_, dead),) = cast("Any", await server.xrange(shard.dead("g")))
    assert dead.items() >= FIELDS.items()
    assert dead[b"error"] == b"invalid-entry: it has 20000 unknown fields; 19002 more fields are not kept"
    assert await left(server, shard) == 0
