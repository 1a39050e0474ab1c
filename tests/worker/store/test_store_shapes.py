"""`store` accepts batches of any shape, and its work does not grow with the number of stored events."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.samples.events import RECEIVED_MS, body, deliveries, event, events_of
from tests.support.workers.store_rows import clear_tables, count_rows, project_rows, read_rows
from worker.events.event import StatusEvent
from worker.store.handler import Store
from worker.store.projection import MOST_DECIDING, MOST_STATUSES, find_deciding, project
from worker.store.tables import messages, status_events

REPEAT = """
INSERT INTO status_events
    (event_id, message_uuid, status, provider_status, received_at, entry, account_verified, payload)
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {times})
SELECT
    substr(event_id, 1, 50) || n, message_uuid, status, provider_status, received_at, entry || n, account_verified,
    payload
FROM status_events, numbers
"""
"""Stores each event again so many times, with other ids."""

few_examples = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.parametrize(("number", "each"), [(1, 33_000), (3000, 11)])
async def test_more_stored_events_than_a_statement_takes_parameters(
    engine: AsyncEngine, number: int, each: int
) -> None:
    """A batch whose messages have 33,000 stored events is stored, and the next one reads few of them."""
    columns = ("event_id", "message_uuid", "status", "provider_status", "received_at", "entry", "account_verified")
    async with engine.begin() as connection:
        stored = [event(body(message_uuid=f"m-{m}")) for m in range(number)]
        values = [{name: getattr(each, name) for name in columns} | {"payload": each.raw} for each in stored]
        await connection.execute(insert(status_events), values)
        await connection.exec_driver_sql(REPEAT.format(times=each - 1))

    store = Store(engine)
    await store.handle([event(body(message_uuid=f"m-{m}", status="read")) for m in range(number)])
    await store.handle([event(body(message_uuid=f"m-{m}", client_ref="x")) for m in range(number)])
    await store.handle([event(body(message_uuid="other"))])

    async with engine.connect() as connection:
        rows = await connection.execute(select(messages.c.message_uuid, messages.c.status, messages.c.client_ref))
        states = {message_uuid: tuple(state) for message_uuid, *state in rows}
        assert len(states) == number + 1
        assert {state for message_uuid, state in states.items() if message_uuid != "other"} == {("read", "x")}
        deciding = await connection.exec_driver_sql("SELECT count(*) FROM status_events WHERE decides")
        assert deciding.scalar_one() <= number * MOST_DECIDING + 1


def busy(rng: random.Random, number: int) -> list[StatusEvent]:
    """Generate events of one message with all fields that its state can depend on, and repeated receipts."""
    events = []
    for n in range(number):
        fields: dict[str, Any] = {"status": rng.choice(["submitted", "delivered", "read", "seen", f"s-{n}"]), "n": n}
        values = (
            ("timestamp", f"2020-01-01T14:00:{rng.randrange(5):02}Z"),
            ("client_ref", f"r-{n}"),
            ("usage", {"price": rng.choice(["0", "0.1", "0.2"]), "currency": rng.choice(["EUR", "USD"])}),
            ("error", {"title": f"{n}"}),
            ("sms", {"count_total": f"{n}"}),
        )
        fields |= {name: value for name, value in values if rng.random() < 0.4}
        for again in range(rng.choice([1, 1, 3])):
            received_ms, account = RECEIVED_MS + rng.randrange(5000), rng.choice([None, None, "a", "b"])
            signature = {"account": account, "verified": "jwt" if account else "none"}
            events.append(event(body(**fields), received_ms, f"0/{received_ms}-{n}{again}", **signature))
    rng.shuffle(events)
    return events


@few_examples
@given(rng=st.randoms(use_true_random=False), size=st.integers(1, 20))
def test_a_message_with_many_events_has_the_state_of_all_of_them(
    runner: asyncio.Runner, writers: tuple[AsyncEngine, AsyncEngine], rng: random.Random, size: int
) -> None:
    """The row is the projection of all events, after any batches and order, with repeated and earlier receipts.

    Two writers have cached events from before the last batch of the other one; a third has just started.
    """
    events = busy(rng, 60)
    batches = [(rng.randrange(3), events[start : start + size]) for start in range(0, len(events), size)]

    async def store() -> Any:
        await clear_tables(writers[0])
        stores = Store(writers[0]), Store(writers[1])
        for writer, batch in batches:
            await (*stores, Store(writers[0]))[writer].handle(batch)
        return await read_rows(writers[0])

    found_messages, found_events = runner.run(store())
    assert found_messages == project_rows(events)
    assert len(found_events) == 60


@settings(max_examples=40)
@given(st.randoms(use_true_random=False))
def test_events_that_do_not_decide_can_be_left_out(rng: random.Random) -> None:
    """The deciding events, also with later events, give the same state as all events."""
    events = list({status_event.event_id: status_event for status_event in busy(rng, 60)}.values())
    before, later = events[:50], events[50:]
    deciding = [status_event for status_event in before if status_event.event_id in find_deciding(before)]
    assert project([*deciding, *later]) == project(events)


def test_a_message_lists_the_statuses_that_it_reached_first() -> None:
    """Invented statuses do not let the row and the work for it grow without a limit."""
    events = [event(body(status=f"s-{n}"), RECEIVED_MS + n) for n in range(2 * MOST_STATUSES)]
    assert list(project(events).statuses) == [f"s-{n}" for n in range(MOST_STATUSES)]
    assert len(find_deciding(events)) <= MOST_STATUSES + 16


@few_examples
@given(delivered=deliveries(), rng=st.randoms(use_true_random=False))
def test_a_rebuilt_table_equals_that_of_a_fresh_replay(
    runner: asyncio.Runner,
    writers: tuple[AsyncEngine, AsyncEngine],
    delivered: list[tuple[bytes, int, str | None]],
    rng: random.Random,
) -> None:
    """After rows of `messages` were deleted, a replay restores the same rows, and none of them is empty."""
    events = events_of(delivered)
    again, all_are_lost = rng.sample(events, len(events)), rng.random() < 0.5

    async def rebuild() -> tuple[Any, Any]:
        engine = writers[0]
        await clear_tables(engine)
        await Store(engine).handle(events)
        fresh = await read_rows(engine)
        lost = random.Random(len(events)).choice(sorted(fresh[0]))  # noqa: S311 - no secret
        async with engine.begin() as connection:
            await connection.execute(
                delete(messages) if all_are_lost else delete(messages).where(messages.c.message_uuid == lost)
            )
        await Store(engine).handle(again)
        return fresh, await read_rows(engine)

    fresh, rebuilt = runner.run(rebuild())
    assert rebuilt == fresh


async def test_repeats_write_nothing(engine: AsyncEngine) -> None:
    """A batch that is stored already leaves both tables unchanged."""
    events = [event(body(message_uuid=f"m-{n}"), at=f"0/{n}-0") for n in range(20)]
    await Store(engine).handle(events)
    before = await read_rows(engine)
    await Store(engine).handle(events)
    assert await read_rows(engine) == before
    assert await count_rows(engine, "messages") == 20


async def test_the_next_status_and_a_repeat_need_no_stored_payload(engine: AsyncEngine) -> None:
    """Both are stored although nobody can parse the stored payloads any more."""
    events = [event(body(status=status), at=f"0/1-{n}") for n, status in enumerate(("submitted", "delivered", "read"))]
    await Store(engine).handle(events[:2])
    async with engine.begin() as connection:
        await connection.execute(update(status_events).values(payload=b""))

    await Store(engine).handle(events[2:])
    await Store(engine).handle(events[1:2])

    async with engine.connect() as connection:
        (row,) = await connection.execute(select(messages.c.status, messages.c.statuses))
    assert (row.status, list(row.statuses)) == ("read", list(project(events).statuses))
    assert await count_rows(engine, "status_events") == 3
