from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream.keys import Shard
from tests.support.streams.delayed import delayed
from tests.support.streams.pending import FIELDS, count_pending, read_new_entries
from worker.group.group_ref import GroupRef
from worker.settle.copies import MOST_FIELDS, Copy
from worker.settle.delayed import DelayedRetries
from worker.settle.retry_policy import Disposition, Failure
from worker.settle.settler import COPIES_AT_ONCE, IDS_AT_ONCE, Settler, WrittenCopies
from worker.sources import Source, streams

every_source = pytest.mark.parametrize("source", list(Source))


def copy(entry_id: bytes, delay_seconds: float | None = None) -> Copy:
    """A copy of the entry, by default for the dead letters."""
    disposition, failure = Disposition("failed: ValueError", delay_seconds), Failure("ValueError", "x.py:1", "", 5)
    origin = f"0/{entry_id.decode()}"
    return Copy.from_failure(entry_id, FIELDS, origin=origin, attempt=3, disposition=disposition, failure=failure)


def copied(entry_id: bytes) -> dict[Any, Any]:
    """The fields of that copy."""
    errors = b'[{"class":"ValueError","place":"x.py:1","ms":5}]'
    return FIELDS | {
        b"origin": b"0/" + entry_id,
        b"attempt": b"3",
        b"error": b"failed: ValueError",
        b"errors": errors,
    }


async def copies(server: Redis, shard: Shard) -> list[tuple[dict[bytes, bytes], float]]:
    """What is delayed, without the moments that the script adds."""
    waiting = await delayed(server, shard, "g")
    return [({name: fields[name] for name in fields if not name.endswith(b"_ms")}, due) for fields, due in waiting]


def number(written: WrittenCopies) -> int:
    """How many copies were written."""
    return len(written.delayed) + len(written.dead)


async def kept(server: Redis, stream: str) -> list[Any]:
    """The fields of all entries of a stream."""
    entries: Any = await server.xrange(stream)
    return [fields for _, fields in entries]


@every_source
async def test_acked_entries_are_no_longer_pending(server: Redis, shard: Shard, source: Source) -> None:
    """To ack ends just these entries, however many; a copy is deleted as well, an entry of the live stream stays."""
    ids = await read_new_entries(server, shard, 2 * IDS_AT_ONCE + 1, source)
    await Settler(GroupRef(server, shard, "g")).ack(source, ids[:-1])
    assert await count_pending(server, shard, source) == 1
    assert await server.xlen(streams(shard, "g")[source]) == (len(ids) if source is Source.LIVE else 1)


@every_source
async def test_a_buried_entry_is_a_dead_letter_with_its_bytes_and_the_reason(
    server: Redis, shard: Shard, source: Source
) -> None:
    """The letter has every field as it was read, and origin, attempt and error; the entry is no longer pending."""
    ids = await read_new_entries(server, shard, 2, source)
    assert number(await Settler(GroupRef(server, shard, "g")).copy(source, [copy(ids[0])])) == 1
    assert await kept(server, shard.dead("g")) == [copied(ids[0])]
    assert await count_pending(server, shard, source) == 1
    assert await server.xlen(streams(shard, "g")[source]) == (2 if source is Source.LIVE else 1)


@every_source
async def test_a_parked_entry_comes_back_whole_when_it_is_due(server: Redis, shard: Shard, source: Source) -> None:
    """Parked, it waits outside of every stream; due by the server's clock, it is on the retry stream, whole."""
    ids = await read_new_entries(server, shard, 2, source)
    assert number(await Settler(GroupRef(server, shard, "g")).copy(source, [copy(ids[0], 0), copy(ids[1], 3600)])) == 2
    assert await count_pending(server, shard, source) == 0
    assert await server.xlen(shard.retry("g")) == 0
    waiting = await copies(server, shard)
    assert [(fields, round(seconds, -1)) for fields, seconds in waiting] == [
        (copied(ids[0]), 0),
        (copied(ids[1]), 3600),
    ]
    await DelayedRetries(GroupRef(server, shard, "g")).promote()
    ((kept_fields),) = await kept(server, shard.retry("g"))
    assert kept_fields.items() >= copied(ids[0]).items()
    assert len(await delayed(server, shard, "g")) == 1


@pytest.mark.parametrize("delay", [None, 0.0])
async def test_a_repeated_or_late_settling_changes_nothing(server: Redis, shard: Shard, delay: float | None) -> None:
    """Only who ends the entry leaves a copy: not the second time, and not after an ack by somebody else."""
    ids = await read_new_entries(server, shard, 2)
    settler = Settler(GroupRef(server, shard, "g"))
    await settler.ack(Source.LIVE, [ids[1]])
    copies = [copy(entry_id, delay) for entry_id in ids]
    assert number(await settler.copy(Source.LIVE, copies)) == 1
    assert number(await settler.copy(Source.LIVE, copies)) == 0
    assert await server.xlen(shard.dead("g")) + await server.zcard(shard.delayed("g")) == 1


@pytest.mark.parametrize("delay", [None, 0.0])
async def test_a_settling_that_fails_leaves_the_entry_pending(server: Redis, shard: Shard, delay: float | None) -> None:
    """When the copy cannot be written (here: its key is of another type) nothing is acked."""
    ids = await read_new_entries(server, shard, 2)
    await server.set(shard.dead("g") if delay is None else shard.delayed("g"), "in the way")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await Settler(GroupRef(server, shard, "g")).copy(Source.LIVE, [copy(entry_id, delay) for entry_id in ids])
    assert await count_pending(server, shard) == 2


async def test_without_its_group_nothing_is_copied(server: Redis, shard: Shard) -> None:
    """A group that is gone acks nothing, so no dead letter is left either."""
    ids = await read_new_entries(server, shard, 1)
    await server.xgroup_destroy(shard.stream, "g")
    assert number(await Settler(GroupRef(server, shard, "g")).copy(Source.LIVE, [copy(ids[0])])) == 0
    assert await server.xlen(shard.dead("g")) == 0


async def test_a_full_server_takes_every_settlement(server: Redis, shard: Shard) -> None:
    """Acks, delayed retries, dead letters and promotions: each ends an entry that can then be trimmed."""
    settler, store = Settler(GroupRef(server, shard, "g")), DelayedRetries(GroupRef(server, shard, "g"))
    ids = await read_new_entries(server, shard, 4)
    retries = await read_new_entries(server, shard, 2, Source.RETRY)
    await server.config_set("maxmemory", 1)
    try:
        assert number(await settler.copy(Source.LIVE, [copy(ids[0], 0), copy(ids[1], 60), copy(ids[2])])) == 3
        await store.promote()
        await settler.ack(Source.LIVE, ids[3:])
        await settler.ack(Source.RETRY, retries)
    finally:
        await server.config_set("maxmemory", "1gb")
    assert [await count_pending(server, shard, source) for source in (Source.LIVE, Source.RETRY)] == [0, 0]
    assert (len(await delayed(server, shard, "g")), await server.xlen(shard.dead("g"))) == (1, 1)
    assert await server.xlen(shard.retry("g")) == 1


async def test_any_number_of_copies_is_settled(server: Redis, shard: Shard) -> None:
    """More than one script takes, and more than it moves at once."""
    ids = await read_new_entries(server, shard, 2 * COPIES_AT_ONCE + 1)
    assert number(
        await Settler(GroupRef(server, shard, "g")).copy(Source.LIVE, [copy(entry_id, 0) for entry_id in ids])
    ) == len(ids)
    await DelayedRetries(GroupRef(server, shard, "g")).promote()
    assert await server.xlen(shard.retry("g")) == len(ids)
    assert await delayed(server, shard, "g") == []


async def test_an_entry_of_too_many_fields_is_buried_as_text(server: Redis, shard: Shard) -> None:
    """A script cannot take them all one by one; nothing of them is lost, and the batch is not stuck."""
    ids = await read_new_entries(server, shard, 1)
    many = {b"%d" % number: b"\xff" for number in range(5 * MOST_FIELDS)}
    letter = Copy.from_invalid(ids[0], many, origin="0/1-0", error="invalid-entry: it lacks v")
    assert number(await Settler(GroupRef(server, shard, "g")).copy(Source.LIVE, [letter])) == 1
    (found,) = await kept(server, shard.dead("g"))
    assert found.keys() == {b"payload", b"origin", b"attempt", b"error"}
    assert found[b"payload"].splitlines()[4999] == rb"b'4999'=b'\xff'"


async def test_a_retry_further_away_than_any_delay_is_due(server: Redis, shard: Shard) -> None:
    """It was delayed before the server's clock stepped back by more than a day."""
    ids = await read_new_entries(server, shard, 2)
    await Settler(GroupRef(server, shard, "g")).copy(Source.LIVE, [copy(entry_id, 60) for entry_id in ids])
    members: Any = await server.zrange(shard.delayed("g"), 0, -1)
    await server.zincrby(shard.delayed("g"), 25 * 3_600_000, members[1])
    await DelayedRetries(GroupRef(server, shard, "g")).promote()
    assert (await server.xlen(shard.retry("g")), len(await delayed(server, shard, "g"))) == (1, 1)


@pytest.mark.parametrize(
    ("succeeded_ms", "first_failed_ms", "dead"),
    [(None, -1000, 0), (-5000, -1000, 0), (-500, -1000, 1), (3_600_000, -1000, 0), (None, -90_000_000, 1)],
)
async def test_after_the_last_attempt_a_later_success_decides(
    server: Redis, shard: Shard, succeeded_ms: int | None, first_failed_ms: int, dead: int
) -> None:
    """Of a call that began after the previous attempt, which another worker may have noted; or a day goes by.

    A success of the future was noted before the server's clock stepped back, and proves nothing.
    """
    ids = await read_new_entries(server, shard, 1)
    seconds, _ = await server.time()
    now_ms = 1000 * seconds
    if succeeded_ms is not None:
        await server.set(shard.succeeded("g"), now_ms + succeeded_ms)
    fields: dict[bytes, bytes] = {
        **FIELDS,
        b"attempt": b"1",
        b"failed_ms": b"%d" % (now_ms - 1000),
        b"first_failed_ms": b"%d" % (now_ms + first_failed_ms),
    }
    disposition, failure = (
        Disposition("failed: ValueError", 60, last=True, counts=False),
        Failure("ValueError", "", "", 5),
    )
    last = Copy.from_failure(ids[0], fields, origin="0/1-0", attempt=2, disposition=disposition, failure=failure)
    written = await Settler(GroupRef(server, shard, "g")).copy(Source.LIVE, [last])
    assert (len(written.dead), len(written.delayed)) == (dead, 1 - dead)
    if dead:
        (letter,) = await kept(server, shard.dead("g"))
        assert (letter[b"attempt"], letter[b"error"]) == (b"2", b"attempts: failed: ValueError")
    else:
        ((waiting, _),) = await delayed(server, shard, "g")
        assert (waiting[b"attempt"], waiting[b"error"]) == (b"1", b"failed: ValueError")
        assert waiting[b"first_failed_ms"] == b"%d" % (now_ms + first_failed_ms)
