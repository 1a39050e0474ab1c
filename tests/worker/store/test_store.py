import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.samples.events import body, deliveries, event, events_of
from tests.support.workers.store_rows import Rows, clear_tables, count_rows, project_rows, read_rows
from worker.events.event import StatusEvent
from worker.handlers.errors import Unavailable
from worker.store.handler import Store
from worker.store.projection import INDEXED, dedupe, project
from worker.store.statements import write_array
from worker.store.tables import messages


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(delivered=deliveries(), rng=st.randoms(use_true_random=False), cut=st.integers(0, 12))
def test_any_order_repetition_and_two_writers_give_the_same_rows(
    runner: asyncio.Runner,
    writers: tuple[AsyncEngine, AsyncEngine],
    delivered: list[tuple[bytes, int, str | None]],
    rng: random.Random,
    cut: int,
) -> None:
    """Events shuffled, repeated and split over two writers leave exactly the rows of their projection."""
    events = events_of(delivered)
    shuffled = events + rng.choices(events, k=3)
    rng.shuffle(shuffled)

    async def store() -> tuple[Rows, Rows]:
        await clear_tables(writers[0])
        halves = [half for half in (shuffled[:cut], shuffled[cut:]) if half]
        await asyncio.gather(*(write_in_parts(engine, half) for engine, half in zip(writers, halves, strict=False)))
        return await read_rows(writers[0])

    found_messages, found_events = runner.run(store())
    assert found_messages == project_rows(events)
    assert {key: value["event"] for key, value in found_events.items()} == dedupe(events)


async def write_in_parts(engine: AsyncEngine, events: list[StatusEvent]) -> None:
    """Write four events at a time, again if other writers hold the lock of SQLite for too long."""
    store = Store(engine)
    for start in range(0, len(events), 4):
        while True:
            with suppress(*([Unavailable] if engine.dialect.name == "sqlite" else [])):
                await store.handle(events[start : start + 4])
                break


async def test_writers_that_share_messages_neither_deadlock_nor_lose_events(engine: AsyncEngine) -> None:
    """Eight writers write the same twenty messages in different orders without a deadlock or a lost event."""
    payloads = [body(message_uuid=f"m-{n % 20}", status=f"s-{n}") for n in range(200)]
    events = [event(payload, at=f"0/{n}-0") for n, payload in enumerate(payloads)]
    rng = random.Random(7)  # noqa: S311 - a shuffle
    parts = [rng.sample(events, 100) for _ in range(8)]
    parts[0] += events
    async with asyncio.timeout(60):
        await asyncio.gather(*(write_in_parts(engine, part) for part in parts))
    assert await count_rows(engine, "status_events") == 200
    assert (await read_rows(engine))[0] == project_rows(events)


async def test_a_batch_is_stored_whole_or_not_at_all(engine: AsyncEngine) -> None:
    """If a statement of the transaction fails, no event of the batch is stored."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql("DROP TABLE messages")
    with pytest.raises(Unavailable):
        await Store(engine).handle([event(body())])
    assert await count_rows(engine, "status_events") == 0


async def test_nul_characters_and_odd_texts_are_stored_in_both(engine: AsyncEngine) -> None:
    """U+0000 becomes U+FFFD in text columns, and the bytes of the payload stay unchanged."""
    payload = body(message_uuid="a\0b", client_ref="x\0", status="s\0", to="\U0001f600")
    await Store(engine).handle([event(payload)])
    message_rows, events = await read_rows(engine)
    assert list(message_rows) == ["a\ufffdb"]
    assert (message_rows["a\ufffdb"]["client_ref"], message_rows["a\ufffdb"]["status"]) == ("x\ufffd", "s\ufffd")
    assert next(iter(events.values()))["event"].raw == payload


@pytest.mark.parametrize("when", ["1970-01-01T00:00:00Z", "9998-12-31T23:59:59.999999Z", "2026-03-29 02:30:00.5 +0200"])
async def test_times_are_kept_to_the_microsecond_over_the_whole_range(engine: AsyncEngine, when: str) -> None:
    """Every time that the parser returns is read back unchanged, also in the first and last years."""
    sent = event(body(timestamp=when))
    assert sent.occurred_at is not None
    await Store(engine).handle([sent])
    message_rows, _ = await read_rows(engine)
    assert message_rows["m-1"]["status_at"] == sent.occurred_at


async def test_a_later_batch_changes_the_values_that_indexes_contain(engine: AsyncEngine) -> None:
    """After each batch of one event, the row has the values of all events so far."""
    store, events = Store(engine), list[StatusEvent]()
    columns = [messages.c[name] for name in ("first_at", *INDEXED)]

    batches: Sequence[dict[str, Any]] = (
        {"status": "submitted", "timestamp": "2026-11-30T12:00:00Z", "to": "447700900000", "client_ref": "order-1"},
        {"status": "read", "timestamp": "2026-11-30T12:00:05Z", "to": "447700900000", "client_ref": "order-1"},
        {"status": "delivered", "timestamp": "2026-11-30T11:59:59.5Z"},
        {"status": "delivered", "timestamp": "2026-11-30T12:00:03Z", "to": "447700900001"},
        {"status": "read", "timestamp": "2026-11-30T12:00:06Z", "to": "447700900002", "client_ref": "order-2"},
        {"status": "read", "timestamp": "2026-11-30T12:00:07Z", "error": {"title": "1000"}},
        {"status": "read", "timestamp": "2026-11-30T12:00:08Z"},
    )
    for number, fields in enumerate(batches):
        events.append(event(body(**fields), at=f"0/1-{number}"))
        await store.handle(events[-1:])

        state = project(events)
        async with engine.connect() as connection:
            (row,) = await connection.execute(select(*columns))
        assert row == (next(iter(state.statuses.values())), *(getattr(state, name) for name in INDEXED))


_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
_TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - bounds


@given(
    texts=st.lists(st.none() | _TEXTS, max_size=50),
    numbers=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)),
    times=st.lists(st.none() | _TIMES),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_postgresql_reads_each_value_of_an_array(
    runner: asyncio.Runner,
    writers: tuple[AsyncEngine, AsyncEngine],
    texts: list[str | None],
    numbers: list[int | None],
    times: list[datetime | None],
) -> None:
    """Quotes, backslashes, commas, braces, control characters and the word null come back unchanged."""
    hostile = [
        'a"b',
        "\\",
        "\\n",
        "\n",
        '\\"',
        "\t\b\f\r\x01\x7f",
        "null",
        "NULL",
        "",
        " ",
        "{a,b}",
        "\U0001f600",
        "\u2028",
    ]
    arrays: Sequence[Sequence[Any]] = (texts, [*texts, *hostile], numbers, times, [True, False, None])

    async def read() -> Sequence[Any]:
        async with writers[0].connect() as connection:
            (row,) = await connection.exec_driver_sql(
                "SELECT $1::TEXT::TEXT[], $2::TEXT::TEXT[], $3::TEXT::BIGINT[], $4::TEXT::TIMESTAMPTZ[], "
                "$5::TEXT::BOOLEAN[]",
                tuple(map(write_array, arrays)),
            )
        return tuple(row)

    assert runner.run(read()) == arrays
