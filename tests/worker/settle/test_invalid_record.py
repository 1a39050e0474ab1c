"""Invalid payloads that no signature proves are recorded once for all groups, within limits, and pause no group."""

from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from console.queries.invalid import (
    count_invalid,
    discard_invalid,
    find_invalid,
    list_invalid,
    replay_invalid,
)
from stream.entry import Entry, EntryId
from stream.keys import Shard
from tests.support.samples.events import body, entry, flat
from worker.consumer.batch import Batch
from worker.group.group_ref import GroupRef
from worker.settle.invalid import InvalidRecord, RecordLimits, UnverifiedPayload
from worker.settle.settler import Settler
from worker.sources import Source

JUNK = b'{"text":"hello","to":"447700900123"}'


async def append(server: Redis, shard: Shard, *entries: Entry) -> list[bytes]:
    """Append these entries; returns their ids."""
    fields: list[Any] = [one.to_fields() for one in entries]
    ids: list[Any] = [await server.xadd(shard.stream, one) for one in fields]
    return ids


async def read(server: Redis, shard: Shard, group: str, source: Source = Source.LIVE) -> Batch:
    """Read what a new group has not read, as a worker does."""
    stream = shard.stream if source is Source.LIVE else shard.retry(group)
    await server.xgroup_create(stream, group, "0")
    found: Any = await server.xreadgroup(group, "c", {stream: ">"}, count=10_000)
    entries: list[Any] = [(entry_id, flat(fields)) for entry_id, fields in found[0][1]]
    return Batch.read(source, entries, shard=0, generation=0)


async def settle(server: Redis, shard: Shard, group: str, limits: RecordLimits | None = None) -> Batch:
    """Read all, and record what is to be recorded."""
    batch = await read(server, shard, group)
    await Settler(GroupRef(server, shard, group), record_limits=limits).record(Source.LIVE, batch.unverified)
    return batch


def unproved(payload: bytes = JUNK, **known: Any) -> Entry:
    return entry(payload, signature="wrong", **known)


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (unproved(), "unverified"),
        (entry(JUNK, signature="missing"), "unverified"),
        (entry(JUNK), "invalid"),
        (entry(JUNK, verified="jwt", account="a"), "invalid"),
        (entry(JUNK, verified="sig"), "invalid"),
        (unproved(body()), "events"),
    ],
)
async def test_only_invalid_payloads_that_failed_their_check_are_recorded(
    server: Redis, shard: Shard, one: Entry, kind: str
) -> None:
    """Of proved senders, and where signatures are off, an invalid payload is a dead letter."""
    await append(server, shard, one)

    batch = await read(server, shard, "g")

    assert [name for name in ("events", "invalid", "unverified") if getattr(batch, name)] == [kind]


async def test_a_payload_is_recorded_once_for_all_groups(server: Redis, shard: Shard) -> None:
    """Each group acks its entry; the record has one payload for each, in every order of the groups."""
    ids = await append(server, shard, *(unproved(JUNK + b"%d" % number) for number in range(3)))

    for group in ("a", "b", "c"):
        batch = await settle(server, shard, group)
        assert [one.entry_id for one in batch.unverified] == ids
        assert (await server.xpending(shard.stream, group))["pending"] == 0

    found = await list_invalid(server, shard, 100)
    assert [one.summary()["entry"] for one in found] == [f"0/{one.decode()}" for one in reversed(ids)]
    assert (await count_invalid(server, shard))["recorded"] == 3


async def test_an_entry_that_another_settled_meanwhile_is_not_recorded(server: Redis, shard: Shard) -> None:
    """Recording and ack are one step: without an ack of its own there is no record."""
    (entry_id,) = await append(server, shard, unproved())
    batch = await read(server, shard, "g")
    await server.xack(shard.stream, "g", entry_id)

    await Settler(GroupRef(server, shard, "g")).record(Source.LIVE, batch.unverified)

    assert await server.xlen(shard.invalid) == 0


async def test_a_copy_is_recorded_under_its_first_entry_and_deleted(server: Redis, shard: Shard) -> None:
    """A retry of an entry that is in the record already adds nothing."""
    (entry_id,) = await append(server, shard, unproved())
    await settle(server, shard, "a")
    copy: Any = unproved(origin=f"0/{entry_id.decode()}", attempt=1).to_fields()
    await server.xadd(shard.retry("b"), copy)

    batch = await read(server, shard, "b", Source.RETRY)
    await Settler(GroupRef(server, shard, "b")).record(Source.RETRY, batch.unverified)

    assert (await server.xlen(shard.retry("b")), await server.xlen(shard.invalid)) == (0, 1)


@pytest.mark.parametrize(
    ("limits", "kept"),
    [(RecordLimits(entries=10), 10), (RecordLimits(total_bytes=3000), 6), (RecordLimits(total_bytes=10), 0)],
)
async def test_the_record_is_bounded_in_entries_and_bytes(
    server: Redis, shard: Shard, limits: RecordLimits, kept: int
) -> None:
    """The oldest payloads go and are counted; the bytes are those of what is left."""
    await append(server, shard, *(unproved(b'{"n":"%03d","pad":"%b"}' % (n, b"x" * 250)) for n in range(300)))

    await settle(server, shard, "g", limits)

    counts = await count_invalid(server, shard)
    left: Any = await server.xrange(shard.invalid)
    assert (counts["entries"], counts["recorded"], counts["dropped"]) == (kept, 300, 300 - kept)
    assert counts["bytes"] == sum(len(name) + len(value) for _, fields in left for name, value in fields.items())
    assert [fields[b"payload"][6:9] for _, fields in left] == [b"%03d" % n for n in range(300 - kept, 300)]
    assert (await server.xpending(shard.stream, "g"))["pending"] == 0


async def test_what_was_dropped_or_discarded_does_not_come_back_with_the_next_group(
    server: Redis, shard: Shard
) -> None:
    """Its id is remembered, so a group that is behind acks it only."""
    await append(server, shard, *(unproved(JUNK + b"%d" % number) for number in range(5)))
    await settle(server, shard, "a", RecordLimits(entries=3))
    assert await discard_invalid(server, shard, None) == 3

    await settle(server, shard, "b", RecordLimits(entries=3))

    counts = await count_invalid(server, shard)
    assert (counts["entries"], counts["recorded"], counts["dropped"], counts["discarded"]) == (0, 5, 2, 3)


async def test_a_full_server_takes_the_record(server: Redis, shard: Shard) -> None:
    """It is bounded, and its entry's ack lets the stream be trimmed; so a full Redis stops no group."""
    await append(server, shard, unproved())
    batch = await read(server, shard, "g")
    await server.config_set("maxmemory", 1)
    try:
        await Settler(GroupRef(server, shard, "g")).record(Source.LIVE, batch.unverified)
    finally:
        await server.config_set("maxmemory", "1gb")

    assert (await server.xlen(shard.invalid), (await server.xpending(shard.stream, "g"))["pending"]) == (1, 0)


async def test_a_key_of_another_type_leaves_everything_as_it_was(server: Redis, shard: Shard) -> None:
    """The script fails before it writes: the entry stays pending."""
    await append(server, shard, unproved())
    batch = await read(server, shard, "g")
    await server.set(shard.invalid_ids, "x")

    with pytest.raises(Exception, match="WRONGTYPE"):
        await Settler(GroupRef(server, shard, "g")).record(Source.LIVE, batch.unverified)

    assert (await server.xlen(shard.invalid), (await server.xpending(shard.stream, "g"))["pending"]) == (0, 1)


async def test_a_replay_parses_again_and_gives_what_is_valid_to_every_group(server: Redis, shard: Shard) -> None:
    """A payload that this version understands is appended whole, with its first id; the others stay."""
    known: Any = unproved(body(message_uuid="m-9"), query=b"a=1").to_fields()
    origin = "0/1700000000000-5"
    record = InvalidRecord(server, shard)
    await server.xgroup_create(shard.stream, "g", "0", mkstream=True)
    taken = await append(server, shard, unproved(), unproved())
    await server.xreadgroup("g", "c", {shard.stream: ">"})
    invalid = [
        UnverifiedPayload.from_entry(taken[0], known, origin=origin, error="invalid-status: of an older version")
    ]
    invalid += [
        UnverifiedPayload.from_entry(
            taken[1], unproved().to_fields(), origin="0/1700000000000-6", error="invalid-status: no id"
        )
    ]
    await record.record(shard.stream, "g", invalid, are_copies=False)

    assert await replay_invalid(server, shard, None) == (1, 1)

    appended: Any = await server.xrevrange(shard.stream, count=1)
    made = Entry.from_fields(appended[0][1])
    assert (made.payload, made.query, made.origin, made.error) == (known[b"payload"], b"a=1", origin, None)
    counts = await count_invalid(server, shard)
    assert (counts["entries"], counts["replayed"]) == (1, 1)
    assert await server.zscore(shard.invalid_ids, "1700000000000-5") is None


async def test_a_full_server_refuses_a_replay_whole(server: Redis, shard: Shard) -> None:
    """The payload stays in the record."""
    (taken,) = await append(server, shard, unproved())
    await read(server, shard, "g")
    one = UnverifiedPayload.from_entry(
        taken, unproved(body()).to_fields(), origin=f"0/{taken.decode()}", error="invalid-status: x"
    )
    await InvalidRecord(server, shard).record(shard.stream, "g", [one], are_copies=False)
    await server.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            await replay_invalid(server, shard, None)
    finally:
        await server.config_set("maxmemory", "1gb")

    assert (await count_invalid(server, shard))["entries"] == 1


async def test_a_payload_is_shown_only_when_it_is_to_be_revealed(server: Redis, shard: Shard) -> None:
    """Anybody may have sent it: even its numbers are no business of a listing."""
    await append(server, shard, unproved())
    await settle(server, shard, "g")
    (found,) = await list_invalid(server, shard, 10)

    assert "payload" not in found.show(reveal=False)
    assert "447700900123" not in str(found.summary()) + str(found.show(reveal=False))
    assert found.show(reveal=True)["payload"] == JUNK.decode()
    assert await find_invalid(server, shard, [found.id, EntryId(0, 1, 1)]) == [found]
