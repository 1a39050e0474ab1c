"""Dead letters, invalid and quarantined payloads are counted by cause, within a limit."""

import asyncio
import time

import orjson
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from console.main import make_app
from console.queries.causes.cause import CAUSES_AT_MOST
from console.queries.causes.counting import count_causes
from console.queries.causes.dead import (
    DeadScope,
    count_dead,
    describe_letter,
    discard_selected,
    read_older,
    replay_dead,
    select_dead,
)
from console.queries.causes.invalid import InvalidScope
from console.queries.causes.quarantine import QuarantineScope
from console.queries.dead_letters import DeadLetter
from stream.keys import Shard
from tests.support.samples.events import RECEIVED_MS, body
from tests.support.samples.tokens import ACCOUNT, OTHER_SECRET, bearer, claims, token, verifier
from tests.support.streams.causes import NO_ORDER, NUMBER, add_dead, add_invalid, add_refused
from worker.replay.entry_filter import ALL
from worker.replay.entry_reader import Stored

HOUR_MS = 3_600_000


async def test_several_groups_are_counted_by_reason_and_error(server: Redis, shard: Shard) -> None:
    """The most frequent cause is first; each has its group, first and last time, and size."""
    await add_dead(server, shard, "orders", 3)
    await add_dead(server, shard, "crm", 2)
    await add_dead(server, shard, "orders", 1, NO_ORDER)

    counted = await count_dead(server, DeadScope([shard], ["orders", "crm"]))

    rows = [cause.summary() for cause in counted.causes.ordered]
    assert [(row["group"], row["reason"], row["error"], row["count"]) for row in rows] == [
        ("orders", "attempts", "failed: KeyError at orders.py:88", 3),
        ("crm", "attempts", "failed: KeyError at orders.py:88", 2),
        ("orders", "discarded", "no order", 1),
    ]
    assert rows[0]["received"] == ["2025-11-24T16:00:00+00:00", "2025-11-24T16:00:00.002000+00:00"]
    assert len({row["cause"] for row in rows}) == 3
    assert (counted.number, counted.lengths, counted.total, counted.is_complete) == (6, [4, 2], 6, True)


async def test_hours_show_whether_it_still_happens(server: Redis, shard: Shard) -> None:
    """Each of the last 24 hours has its number; older dead letters count only in the total."""
    now_ms = time.time_ns() // 1_000_000
    for age_ms in (30 * HOUR_MS, 5 * HOUR_MS + 60_000, 60_000):
        await add_dead(server, shard, "orders", entry_id=f"{now_ms - age_ms}-0")

    [cause] = (await count_dead(server, DeadScope([shard], ["orders"]))).causes.ordered

    assert (cause.count, cause.hours, cause.summary()["last_hour"]) == (3, [0] * 18 + [1] + [0] * 4 + [1], 1)


async def test_numbers_in_errors_are_masked_and_still_match(server: Redis, shard: Shard) -> None:
    """A cause has no whole number in its words, and a selection by these words finds its dead letters."""
    await add_dead(server, shard, "orders", 2, f"discarded: no customer {NUMBER}")
    scope = DeadScope([shard], ["orders"])
    [cause] = (await count_dead(server, scope)).causes.ordered

    chosen, selected = await select_dead(server, scope, cause.id)

    assert NUMBER not in orjson.dumps(cause.summary()).decode()
    assert (cause.words["error"], selected.count) == ("no customer ********0123", 2)
    assert await discard_selected(server, chosen, selected) == 2


async def test_a_command_selects_by_the_error_that_list_shows(valkey_url: str, server: Redis, shard: Shard) -> None:
    """``discard --error`` takes the masked error, or the whole one, and drops no dead letter of another cause."""
    await add_dead(server, shard, "orders", 2, f"discarded: no customer {NUMBER}")
    await add_dead(server, shard, "orders", 3)
    options = {"ACKSTREAM_REDIS_URL": valkey_url, "ACKSTREAM_STREAM": shard.name}

    for error, number in (("no customer 447700900124", 0), (f"no customer {NUMBER}", 2)):
        command = ["dead-letters", "discard", "--group", "orders", "--error", error, "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, make_app(command), command, env=options)
        assert orjson.loads(result.stdout) == {"discarded": {"orders": number}}

    assert await server.xlen(shard.dead("orders")) == 3


async def test_only_the_newest_are_counted(server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more dead letters than the limit, the newest of all groups are counted, and an action covers only those."""
    monkeypatch.setattr("console.queries.causes.dead.COUNTED_AT_MOST", 5)
    await add_dead(server, shard, "orders", 40)
    await add_dead(server, shard, "crm", 2)
    scope = DeadScope([shard], ["orders", "crm"])

    counted = await count_dead(server, scope)
    chosen, selected = await select_dead(server, DeadScope([shard], ["orders"]), counted.causes.ordered[0].id)

    assert [(cause.words["group"], cause.count) for cause in counted.causes.ordered] == [("orders", 3), ("crm", 2)]
    assert (counted.number, counted.total, counted.is_complete) == (5, 42, False)
    assert selected.count == 5
    assert await discard_selected(server, chosen, selected) == 5
    assert await server.xlen(shard.dead("orders")) == 35


async def test_large_dead_letters_are_counted_up_to_a_size(
    server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question reads a limited number of bytes, and says that it has not counted all."""
    monkeypatch.setattr("console.queries.causes.newest.BYTES_AT_MOST", 200_000)
    await add_dead(server, shard, "orders", 600, payload=b"x" * 1000)

    counted = await count_dead(server, DeadScope([shard], ["orders"]))

    assert (counted.number, counted.total, counted.is_complete) == (250, 600, False)


async def test_later_dead_letters_are_not_part_of_a_selection(server: Redis, shard: Shard) -> None:
    """With the newest id that a person saw, the number stays the same although more arrive."""
    *_, newest = await add_dead(server, shard, "orders", 3)
    await add_dead(server, shard, "orders", 2)

    scope, selected = await select_dead(server, DeadScope([shard], ["orders"], ALL, newest), None)

    assert (selected.count, await discard_selected(server, scope, selected)) == (3, 3)
    assert await server.xlen(shard.dead("orders")) == 2


async def test_pages_follow_each_other_without_gap_or_repetition(server: Redis, shard: Shard) -> None:
    """The newest ten are with the cause; each further page starts before the last id of the one before it."""
    ids = await add_dead(server, shard, "orders", 25)
    await add_dead(server, shard, "orders", 3, NO_ORDER)
    scope = DeadScope([shard], ["orders"])
    first, _ = (await count_dead(server, scope)).causes.ordered

    read = [stored.id for stored in first.newest]
    has_more = True
    while has_more:
        letters, has_more = await read_older(server, scope, first.id, read[-1])
        read += [letter.id for letter in letters]

    assert read == ids[::-1]


async def test_pages_have_dead_letters_of_the_same_time_on_other_shards(server: Redis, shard: Shard) -> None:
    """A page that ends between two dead letters of one time is followed by the other one."""
    shards = [Shard(shard.name, number) for number in range(3)]
    for each in shards:
        for number in range(1, 9):
            await add_dead(server, each, "orders", entry_id=f"{number}-0")
    scope = DeadScope(shards, ["orders"])
    [first] = (await count_dead(server, scope)).causes.ordered

    read = [stored.id for stored in first.newest]
    has_more = True
    while has_more:
        letters, has_more = await read_older(server, scope, first.id, read[-1])
        read += [letter.id for letter in letters]

    assert [(letter.ms, letter.shard) for letter in read] == [
        (ms, number) for ms in range(8, 0, -1) for number in range(3)
    ]


async def test_a_sample_is_the_newest_ten_and_its_replay_names_the_cause(server: Redis, shard: Shard) -> None:
    """The replay has the ids of the sample and the words of the cause; all others stay."""
    ids = await add_dead(server, shard, "orders", 12)
    scope = DeadScope([shard], ["orders"])
    [cause] = (await count_dead(server, scope)).causes.ordered
    scope, sample = await select_dead(server, scope, cause.id, sample=10)

    replay = await replay_dead(server, scope, sample, 50, person="ann", why="fixed")

    assert (replay.total, replay.group, replay.rate) == (10, "orders", 50)
    assert sorted(replay.selection.ids) == sorted(str(letter_id) for letter_id in ids[2:])
    words = (replay.selection.reasons, replay.selection.errors)
    assert words == (("attempts",), ("failed: KeyError at orders.py:88",))


async def test_causes_beyond_the_limit_are_counted_together(server: Redis, shard: Shard) -> None:
    """A handler that discards with a text of its own for each event cannot make the page grow."""
    for place in range(CAUSES_AT_MOST + 5):
        await add_dead(server, shard, "orders", 1, f"discarded: order {place} is unknown")

    causes = (await count_dead(server, DeadScope([shard], ["orders"]))).causes.ordered

    assert len(causes) == CAUSES_AT_MOST + 1
    assert (causes[-1].words, causes[-1].count) == ({}, 5)


async def test_a_row_has_its_message_with_a_masked_number(server: Redis, shard: Shard) -> None:
    """A payload that is not a status leaves the fields of the message empty."""
    fields = await _dead_fields(server, shard)
    letter = DeadLetter(fields.id, "orders", fields.fields)
    junk = DeadLetter(fields.id, "orders", {**fields.fields, b"payload": b"\xff<script>"})

    row = describe_letter(letter)

    assert (row["message"], row["client_ref"], row["status"], row["to"]) == (
        "m-0",
        "order-0",
        "delivered",
        "********0123",
    )
    assert (row["entry"], row["attempts"], row["given_up_at"]) == ("0/1000-0", 8, "2025-11-24T16:00:00+00:00")
    assert describe_letter(junk)["message"] is None


async def _dead_fields(server: Redis, shard: Shard) -> Stored:
    await add_dead(server, shard, "orders", entry_id=f"{RECEIVED_MS}-0")
    [cause] = (await count_dead(server, DeadScope([shard], ["orders"]))).causes.ordered
    return cause.newest[0]


async def test_invalid_payloads_are_counted_by_error_and_signature(server: Redis, shard: Shard) -> None:
    """Those that are a status today are counted as good."""
    await add_invalid(server, shard, b"{}", body(message_uuid="m-1"), error="no message id")
    await add_invalid(server, shard, b"x", error="no JSON", signature="missing")
    scope = InvalidScope([shard])

    counted = await count_causes(server, scope.streams, scope.describe)

    assert [(cause.words, cause.count, cause.good) for cause in counted.causes.ordered] == [
        ({"error": "no message id", "signature": "wrong"}, 2, 1),
        ({"error": "no JSON", "signature": "missing"}, 1, 0),
    ]


async def test_quarantined_payloads_are_counted_by_reason_and_account(server: Redis, shard: Shard) -> None:
    """Those whose signature is right with the current secrets are counted as good; without secrets none is."""
    payload = body(message_uuid="m-1")
    await add_refused(server, shard, payload)
    await add_refused(server, shard, b"{}", headers=[f"Bearer {token(claims(b'{}'), secret=OTHER_SECRET)}"])
    await add_refused(server, shard, b"[]", reason="age", headers=bearer(b"{}"))
    scope = QuarantineScope([shard], verifier())
    blind = QuarantineScope([shard], None)

    counted = await count_causes(server, scope.streams, scope.describe)
    unchecked = await count_causes(server, blind.streams, blind.describe)

    assert [(cause.words, cause.count, cause.good) for cause in counted.causes.ordered] == [
        ({"reason": "signature", "account": ACCOUNT}, 2, 1),
        ({"reason": "age", "account": ACCOUNT}, 1, 0),
    ]
    assert sum(cause.good for cause in unchecked.causes.ordered) == 0


async def test_an_empty_stream_has_no_cause(server: Redis, shard: Shard) -> None:
    """Nothing is counted, and no key is created."""
    counted = await count_dead(server, DeadScope([shard], ["orders"]))

    assert (counted.causes.ordered, counted.total, counted.is_complete, counted.through) == ([], 0, True, None)
    assert await server.keys(f"{shard.stream}*") == []
