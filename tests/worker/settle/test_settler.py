import time
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream.keys import Shard
from tests.support.streams.delayed import read_delayed
from tests.support.streams.pending import FIELDS, count_pending, read_new_entries
from tests.support.waiting import until
from worker.group.group_ref import GroupRef
from worker.settle.copies import MOST_FIELDS, Copy
from worker.settle.delayed import DelayedRetries
from worker.settle.retry_policy import Disposition, Failure
from worker.settle.settler import COPIES_AT_ONCE, IDS_AT_ONCE, Settler, WrittenCopies
from worker.sources import Source, streams

every_source = pytest.mark.parametrize("source", list(Source))


def copy(entry_id: bytes, delay_seconds: float | None = None) -> Copy:
    """Return a copy of the entry, by default a dead letter."""
    disposition, failure = Disposition("failed: ValueError", delay_seconds), Failure("ValueError", "x.py:1", "", 5)
    origin = f"0/{entry_id.decode()}"
    return Copy.from_failure(entry_id, FIELDS, origin=origin, attempt=3, disposition=disposition, failure=failure)


def copy_fields(entry_id: bytes) -> dict[Any, Any]:
    """Return the fields of that copy."""
    errors = b'[{"class":"ValueError","place":"x.py:1","ms":5}]'
    return FIELDS | {
        b"origin": b"0/" + entry_id,
        b"attempt": b"3",
        b"error": b"failed: ValueError",
        b"errors": errors,
    }


async def copies(server: Redis, shard: Shard) -> list[tuple[dict[bytes, bytes], float]]:
    """Return the delayed copies without the times that the script adds."""
    waiting = await read_delayed(server, shard, "g")
    return [({name: fields[name] for name in fields if not name.endswith(b"_ms")}, due) for fields, due in waiting]


def number(written: WrittenCopies) -> int:
    """Return how many copies were written."""
    return len(written.delayed) + len(written.dead)


async def kept(server: Redis, stream: str) -> list[Any]:
    """Return the fields of all entries of a stream."""
    entries: Any = await server.xrange(stream)
    return [fields for _, fields in entries]


@every_source
async def test_acked_entries_are_no_longer_pending(server: Redis, shard: Shard, source: Source) -> None:
    """An ack ends only these entries; copies are deleted too, live entries stay on the stream."""
    ids = await read_new_entries(server, shard, 2 * IDS_AT_ONCE + 1, source)
    await Settler(GroupRef(server, shard, "g")).ack(source, ids[:-1])
    assert await count_pending(server, shard, source) == 1
    assert await server.xlen(streams(shard, "g")[source]) == (len(ids) if source is Source.LIVE else 1)


@every_source
async def test_a_dead_letter_has_the_bytes_and_the_reason(server: Redis, shard: Shard, source: Source) -> None:
    """The dead letter has all fields of the entry, and origin, attempt and error; the entry is acked."""
    ids = await read_new_entries(server, shard, 2, source)
    assert number(await Settler(GroupRef(server, shard, "g")).copy(source, [copy(ids[0])])) == 1
    assert await kept(server, shard.dead("g")) == [copy_fields(ids[0])]
    assert await count_pending(server, shard, source) == 1
    assert await server.xlen(streams(shard, "g")[source]) == (2 if source is Source.LIVE else 1)


@every_source
async def test_a_delayed_entry_comes_back_whole_when_it_is_due(server: Redis, shard: Shard, source: Source) -> None:
    """A delayed copy waits in the sorted set, and moves whole to the retry stream when it is due."""
    ids = await read_new_entries(server, shard, 2, source)
    assert number(await Settler(GroupRef(server, shard, "g")).copy(source, [copy(ids[0], 0), copy(ids[1], 3600)])) == 2
    assert await count_pending(server, shard, source) == 0
    assert await server.xlen(shard.retry("g")) == 0
    waiting = await copies(server, shard)
    assert [(fields, round(seconds, -1)) for fields, seconds in waiting] == [
        (copy_fields(ids[0]), 0),
        (copy_fields(ids[1]), 3600),
    ]
    await DelayedRetries(GroupRef(server, shard, "g")).promote()
    ((kept_fields),) = await kept(server, shard.retry("g"))
    assert kept_fields.items() >= copy_fields(ids[0]).items()
    assert len(await read_delayed(server, shard, "g")) == 1


@pytest.mark.parametrize("delay", [None, 0.0])
async def test_a_repeated_or_late_settlement_changes_nothing(server: Redis, shard: Shard, delay: float | None) -> None:
    """A repeated settlement, or one after another worker's ack, writes no copy."""
    ids = await read_new_entries(server, shard, 2)
    settler = Settler(GroupRef(server, shard, "g"))
    await settler.ack(Source.LIVE, [ids[1]])
    copies = [copy(entry_id, delay) for entry_id in ids]
    assert number(await settler.copy(Source.LIVE, copies)) == 1
    assert number(await settler.copy(Source.LIVE, copies)) == 0
    assert await server.xlen(shard.dead("g")) + await server.zcard(shard.delayed("g")) == 1


@pytest.mark.parametrize("delay", [None, 0.0])
async def test_a_failed_settlement_leaves_the_entry_pending(server: Redis, shard: Shard, delay: float | None) -> None:
    """If a copy cannot be written, because its key has the wrong type, no entry is acked."""
    ids = await read_new_entries(server, shard, 2)
    await server.set(shard.dead("g") if delay is None else shard.delayed("g"), "in the way")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await Settler(GroupRef(server, shard, "g")).copy(Source.LIVE, [copy(entry_id, delay) for entry_id in ids])
    assert await count_pending(server, shard) == 2


async def test_without_its_group_nothing_is_copied(server: Redis, shard: Shard) -> None:
    """Without the group no entry is acked, and no dead letter is written."""
    ids = await read_new_entries(server, shard, 1)
    await server.xgroup_destroy(shard.stream, "g")
    assert number(await Settler(GroupRef(server, shard, "g")).copy(Source.LIVE, [copy(ids[0])])) == 0
    assert await server.xlen(shard.dead("g")) == 0


async def test_a_full_server_takes_every_settlement(server: Redis, shard: Shard) -> None:
    """Acks, delayed retries, dead letters and promotions work while Redis is out of memory."""
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
    assert (len(await read_delayed(server, shard, "g")), await server.xlen(shard.dead("g"))) == (1, 1)
    assert await server.xlen(shard.retry("g")) == 1


async def test_any_number_of_copies_is_settled(server: Redis, shard: Shard) -> None:
    """More copies than one script call takes are all delayed and promoted."""
    ids = await read_new_entries(server, shard, 2 * COPIES_AT_ONCE + 1)
    assert number(
        await Settler(GroupRef(server, shard, "g")).copy(Source.LIVE, [copy(entry_id, 0) for entry_id in ids])
    ) == len(ids)
    await DelayedRetries(GroupRef(server, shard, "g")).promote()
    assert await server.xlen(shard.retry("g")) == len(ids)
    assert await read_delayed(server, shard, "g") == []


async def test_an_entry_of_too_many_fields_is_dead_lettered_as_text(server: Redis, shard: Shard) -> None:
    """Fields that are too many for a script are dead-lettered as one text, and the batch is settled."""
    ids = await read_new_entries(server, shard, 1)
    many = {b"%d" % number: b"\xff" for number in range(5 * MOST_FIELDS)}
    letter = Copy.from_invalid(ids[0], many, origin="0/1-0", error="invalid-entry: it lacks v")
    assert number(await Settler(GroupRef(server, shard, "g")).copy(Source.LIVE, [letter])) == 1
    (letter,) = await kept(server, shard.dead("g"))
    assert letter.keys() == {b"payload", b"origin", b"attempt", b"error"}
    assert letter[b"payload"].splitlines()[4999] == rb"b'4999'=b'\xff'"


async def test_a_retry_beyond_any_delay_is_due(server: Redis, shard: Shard) -> None:
    """A retry due in more than a day, after a clock step, is promoted at once."""
    ids = await read_new_entries(server, shard, 2)
    await Settler(GroupRef(server, shard, "g")).copy(Source.LIVE, [copy(entry_id, 60) for entry_id in ids])
    members: Any = await server.zrange(shard.delayed("g"), 0, -1)
    await server.zincrby(shard.delayed("g"), 25 * 3_600_000, members[1])
    await DelayedRetries(GroupRef(server, shard, "g")).promote()
    assert (await server.xlen(shard.retry("g")), len(await read_delayed(server, shard, "g"))) == (1, 1)


@pytest.mark.parametrize(
    ("succeeded_ms", "first_failed_ms", "dead"),
    [(None, -1000, 0), (-5000, -1000, 0), (-500, -1000, 1), (3_600_000, -1000, 0), (None, -90_000_000, 1)],
)
async def test_after_the_last_attempt_a_later_success_decides(
    server: Redis, shard: Shard, succeeded_ms: int | None, first_failed_ms: int, dead: int
) -> None:
    """After the last attempt an event is dead-lettered if a call succeeded since, on any worker, or a day has passed.

    A success in the future is from before a clock step, and does not count.
    """
    ids = await read_new_entries(server, shard, 1)
    now_ms = await server_ms(server)
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
        ((waiting, _),) = await read_delayed(server, shard, "g")
        assert (waiting[b"attempt"], waiting[b"error"]) == (b"1", b"failed: ValueError")
        assert waiting[b"first_failed_ms"] == b"%d" % (now_ms + first_failed_ms)


async def test_a_pause_before_the_settlement_makes_no_success_later(server: Redis, shard: Shard) -> None:
    """An event that failed after the latest success is delayed, however long its settlement waits for the server."""
    settler = Settler(GroupRef(server, shard, "g"))
    await settler.note_success(None)
    succeeded = time.monotonic()
    ids = await read_new_entries(server, shard, 1)
    failed_ms = b"%d" % (await server_ms(server) + 1)
    fields = {**FIELDS, b"attempt": b"1", b"failed_ms": failed_ms, b"first_failed_ms": failed_ms}
    last = Copy(ids[0], fields, 60, (2, "attempts: failed: ValueError"), failed_ms, failed_ms)
    await server.client_pause(200, all=False)
    written = await settler.copy(Source.LIVE, [last], succeeded)
    assert (len(written.dead), len(written.delayed)) == (0, 1)
    await settler.note_success(succeeded)
    assert int(await server.get(shard.succeeded("g")) or b"") < int(failed_ms)


async def test_a_success_is_published_by_the_server_s_clock(server: Redis, shard: Shard) -> None:
    """A success is published once the server's time is known, never later than it was; a future one is refused."""
    settler = Settler(GroupRef(server, shard, "g"))
    start_ms = await server_ms(server)
    for success in (time.monotonic(), time.monotonic() + 3600):
        await settler.note_success(success)
        assert await server.get(shard.succeeded("g")) is None

    async def is_published() -> bool:
        await settler.note_success(time.monotonic())
        return start_ms <= int(await server.get(shard.succeeded("g")) or 0) <= await server_ms(server)

    await until(is_published)


async def server_ms(server: Redis) -> int:
    """Return the server's time in milliseconds."""
    seconds, microseconds = await server.time()
    return 1000 * seconds + microseconds // 1000
