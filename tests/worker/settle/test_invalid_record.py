"""Unverified invalid payloads are recorded once for all groups, within limits, and pause no group."""

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
    """Append entries, and return their ids."""
    fields: list[Any] = [entry.to_fields() for entry in entries]
    ids: list[Any] = [await server.xadd(shard.stream, mapping) for mapping in fields]
    return ids


async def read(server: Redis, shard: Shard, group: str, source: Source = Source.LIVE) -> Batch:
    """Read all entries with a new group, as a worker does."""
    stream = shard.stream if source is Source.LIVE else shard.retry(group)
    await server.xgroup_create(stream, group, "0")
    reply: Any = await server.xreadgroup(group, "c", {stream: ">"}, count=10_000)
    entries: list[Any] = [(entry_id, flat(fields)) for entry_id, fields in reply[0][1]]
    return Batch.read(source, entries, shard=0, generation=0)


async def settle(server: Redis, shard: Shard, group: str, limits: RecordLimits | None = None) -> Batch:
    """Read all entries, and record the unverified invalid ones."""
    batch = await read(server, shard, group)
    await Settler(GroupRef(server, shard, group), record_limits=limits).record(Source.LIVE, batch.unverified)
    return batch


def make_unverified(payload: bytes = JUNK, **more: Any) -> Entry:
    return entry(payload, signature="wrong", **more)


@pytest.mark.parametrize(
    ("invalid", "kind"),
    [
        (make_unverified(), "unverified"),
        (entry(JUNK, signature="missing"), "unverified"),
        (entry(JUNK), "invalid"),
        (entry(JUNK, verified="jwt", account="a"), "invalid"),
        (entry(JUNK, verified="sig"), "invalid"),
        (make_unverified(body()), "events"),
    ],
)
async def test_only_invalid_payloads_that_failed_their_check_are_recorded(
    server: Redis, shard: Shard, invalid: Entry, kind: str
) -> None:
    """An invalid payload is a dead letter if its signature is valid or signatures are not checked."""
    await append(server, shard, invalid)

    batch = await read(server, shard, "g")

    assert [name for name in ("events", "invalid", "unverified") if getattr(batch, name)] == [kind]


async def test_a_payload_is_recorded_once_for_all_groups(server: Redis, shard: Shard) -> None:
    """Each group acks its entries; the record has each payload once, in any order of the groups."""
    ids = await append(server, shard, *(make_unverified(JUNK + b"%d" % number) for number in range(3)))

    for group in ("a", "b", "c"):
        batch = await settle(server, shard, group)
        assert [payload.entry_id for payload in batch.unverified] == ids
        assert (await server.xpending(shard.stream, group))["pending"] == 0

    recorded = await list_invalid(server, [shard], 100)
    assert [payload.summary()["entry"] for payload in recorded] == [
        f"0/{entry_id.decode()}" for entry_id in reversed(ids)
    ]
    assert (await count_invalid(server, shard))["recorded"] == 3


async def test_an_entry_that_another_worker_settled_is_not_recorded(server: Redis, shard: Shard) -> None:
    """An entry that another worker settled before is not recorded, because record and ack are one step."""
    (entry_id,) = await append(server, shard, make_unverified())
    batch = await read(server, shard, "g")
    await server.xack(shard.stream, "g", entry_id)

    await Settler(GroupRef(server, shard, "g")).record(Source.LIVE, batch.unverified)

    assert await server.xlen(shard.invalid) == 0


async def test_a_copy_is_recorded_under_its_first_entry_and_deleted(server: Redis, shard: Shard) -> None:
    """A retry of a recorded entry adds nothing, and its copy is deleted."""
    (entry_id,) = await append(server, shard, make_unverified())
    await settle(server, shard, "a")
    copy: Any = make_unverified(origin=f"0/{entry_id.decode()}", attempt=1).to_fields()
    await server.xadd(shard.retry("b"), copy)

    batch = await read(server, shard, "b", Source.RETRY)
    await Settler(GroupRef(server, shard, "b")).record(Source.RETRY, batch.unverified)

    assert (await server.xlen(shard.retry("b")), await server.xlen(shard.invalid)) == (0, 1)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [(RecordLimits(entries=10), 10), (RecordLimits(total_bytes=3000), 6), (RecordLimits(total_bytes=10), 0)],
)
async def test_the_record_is_bounded_in_entries_and_bytes(
    server: Redis, shard: Shard, limits: RecordLimits, expected: int
) -> None:
    """At a limit the oldest payloads are dropped and counted; the bytes are those of the rest."""
    await append(server, shard, *(make_unverified(b'{"n":"%03d","pad":"%b"}' % (n, b"x" * 250)) for n in range(300)))

    await settle(server, shard, "g", limits)

    counts = await count_invalid(server, shard)
    records: Any = await server.xrange(shard.invalid)
    assert (counts["entries"], counts["recorded"], counts["dropped"]) == (expected, 300, 300 - expected)
    assert counts["bytes"] == sum(len(name) + len(value) for _, fields in records for name, value in fields.items())
    assert [fields[b"payload"][6:9] for _, fields in records] == [b"%03d" % n for n in range(300 - expected, 300)]
    assert (await server.xpending(shard.stream, "g"))["pending"] == 0


async def test_a_removed_payload_is_not_recorded_again(server: Redis, shard: Shard) -> None:
    """The record keeps the ids of removed payloads, so a group that lags only acks them."""
    await append(server, shard, *(make_unverified(JUNK + b"%d" % number) for number in range(5)))
    await settle(server, shard, "a", RecordLimits(entries=3))
    assert await discard_invalid(server, shard, None) == 3

    await settle(server, shard, "b", RecordLimits(entries=3))

    counts = await count_invalid(server, shard)
    assert (counts["entries"], counts["recorded"], counts["dropped"], counts["discarded"]) == (0, 5, 2, 3)


async def test_a_full_server_takes_the_record(server: Redis, shard: Shard) -> None:
    """A payload is recorded while Redis is out of memory, so a full Redis stops no group."""
    await append(server, shard, make_unverified())
    batch = await read(server, shard, "g")
    await server.config_set("maxmemory", 1)
    try:
        await Settler(GroupRef(server, shard, "g")).record(Source.LIVE, batch.unverified)
    finally:
        await server.config_set("maxmemory", "1gb")

    assert (await server.xlen(shard.invalid), (await server.xpending(shard.stream, "g"))["pending"]) == (1, 0)


async def test_a_key_of_another_type_leaves_everything_as_it_was(server: Redis, shard: Shard) -> None:
    """If a key has the wrong type, the script writes nothing and the entry stays pending."""
    await append(server, shard, make_unverified())
    batch = await read(server, shard, "g")
    await server.set(shard.invalid_ids, "x")

    with pytest.raises(Exception, match="WRONGTYPE"):
        await Settler(GroupRef(server, shard, "g")).record(Source.LIVE, batch.unverified)

    assert (await server.xlen(shard.invalid), (await server.xpending(shard.stream, "g"))["pending"]) == (0, 1)


async def test_a_replay_appends_valid_payloads_for_every_group(server: Redis, shard: Shard) -> None:
    """A replay appends valid payloads with their first id; invalid ones stay in the record."""
    valid: Any = make_unverified(body(message_uuid="m-9"), query=b"a=1").to_fields()
    origin = "0/1700000000000-5"
    record = InvalidRecord(server, shard)
    await server.xgroup_create(shard.stream, "g", "0", mkstream=True)
    entry_ids = await append(server, shard, make_unverified(), make_unverified())
    await server.xreadgroup("g", "c", {shard.stream: ">"})
    invalid = [
        UnverifiedPayload.from_entry(entry_ids[0], valid, origin=origin, error="invalid-status: of an older version")
    ]
    invalid += [
        UnverifiedPayload.from_entry(
            entry_ids[1],
            make_unverified().to_fields(),
            origin="0/1700000000000-6",
            error="invalid-status: no id",
        )
    ]
    await record.record(shard.stream, "g", invalid, are_copies=False)

    assert await replay_invalid(server, shard, None) == (1, 1)

    appended: Any = await server.xrevrange(shard.stream, count=1)
    appended_entry = Entry.from_fields(appended[0][1])
    assert (appended_entry.payload, appended_entry.query, appended_entry.origin, appended_entry.error) == (
        valid[b"payload"],
        b"a=1",
        origin,
        None,
    )
    counts = await count_invalid(server, shard)
    assert (counts["entries"], counts["replayed"]) == (1, 1)
    assert await server.zscore(shard.invalid_ids, "1700000000000-5") is None


async def test_a_full_server_refuses_a_replay_whole(server: Redis, shard: Shard) -> None:
    """A replay that fails for lack of memory leaves the payload in the record."""
    (entry_id,) = await append(server, shard, make_unverified())
    await read(server, shard, "g")
    payload = UnverifiedPayload.from_entry(
        entry_id,
        make_unverified(body()).to_fields(),
        origin=f"0/{entry_id.decode()}",
        error="invalid-status: x",
    )
    await InvalidRecord(server, shard).record(shard.stream, "g", [payload], are_copies=False)
    await server.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            await replay_invalid(server, shard, None)
    finally:
        await server.config_set("maxmemory", "1gb")

    assert (await count_invalid(server, shard))["entries"] == 1


async def test_a_payload_is_shown_only_on_request(server: Redis, shard: Shard) -> None:
    """Lists mask the numbers in a payload unless the operator asks for it."""
    await append(server, shard, make_unverified())
    await settle(server, shard, "g")
    (recorded,) = await list_invalid(server, [shard], 10)

    assert "payload" not in recorded.show(reveal=False)
    assert "447700900123" not in str(recorded.summary()) + str(recorded.show(reveal=False))
    assert recorded.show(reveal=True)["payload"] == JUNK.decode()
    assert await find_invalid(server, shard, [recorded.id, EntryId(0, 1, 1)]) == [recorded]
