import asyncio
import random
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.samples.events import body, deliveries, event, events_of
from tests.support.workers.rollup_rows import Sums, count_sums, read_sums
from tests.support.workers.store_rows import clear_tables, count_rows, project_states
from worker.events.event import StatusEvent
from worker.handlers.errors import Unavailable
from worker.store.database import open_engine
from worker.store.handler import Store
from worker.store.migrate import migrate
from worker.store.rollups import TABLES


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    delivered=deliveries(messages=4, limit=30),
    rng=st.randoms(use_true_random=False),
    size=st.integers(1, 12),
    cut=st.integers(0, 30),
)
def test_sums_equal_a_count_of_the_states(
    runner: asyncio.Runner,
    writers: tuple[AsyncEngine, AsyncEngine],
    delivered: list[tuple[bytes, int, str | None]],
    rng: random.Random,
    size: int,
    cut: int,
) -> None:
    """Any order, batches and repetition by two writers at once give the sums of a count over the final states."""
    events = events_of(delivered)
    shuffled = events + rng.choices(events, k=5)
    rng.shuffle(shuffled)

    async def store() -> Sums:
        await clear_tables(writers[0])
        halves = [shuffled[:cut], shuffled[cut:]]
        await asyncio.gather(*(write(engine, half, size) for engine, half in zip(writers, halves, strict=True)))
        return await read_sums(writers[0])

    assert runner.run(store()) == count_sums(project_states(events).values())


async def write(engine: AsyncEngine, events: list[StatusEvent], size: int) -> None:
    """Write batches of this size, again if another writer holds the lock of SQLite for too long."""
    store = Store(engine)
    for start in range(0, len(events), size):
        while True:
            with suppress(*([Unavailable] if engine.dialect.name == "sqlite" else [])):
                await store.handle(events[start : start + size])
                break


async def test_writers_of_the_same_hour_do_not_wait_for_each_other(postgresql_url: str) -> None:
    """A transaction that has added to the roll-ups and not committed does not hold up other writers."""
    engine = open_engine(postgresql_url)
    await migrate(engine)
    await Store(engine).handle([event(body(message_uuid="first"))])
    async with engine.begin() as slow:
        await slow.execute(text("SELECT pg_advisory_xact_lock(0x61636B72, 0)"))
        await slow.execute(text("UPDATE status_rollups SET messages = messages + 1"))

        async with asyncio.timeout(60):
            await Store(engine).handle([event(body(message_uuid=f"m-{n}")) for n in range(5)])

        await slow.rollback()
    async with engine.connect() as connection:
        slots = await connection.execute(text("SELECT slot, messages FROM status_rollups ORDER BY slot"))
        assert [tuple(row) for row in slots] == [(0, 1), (1, 5)]
    await engine.dispose()


@pytest.mark.parametrize("table", [table.name for table in TABLES])
async def test_rows_are_not_stored_without_their_sums(engine: AsyncEngine, table: str) -> None:
    """If a roll-up cannot be written, nothing of the batch is stored."""
    usage, error = {"price": "0.1", "currency": "EUR"}, {"title": "1000"}
    statuses = (("submitted", "2020-01-01T14:00:00Z"), ("delivered", "2020-01-01T14:00:07Z"))
    events = [event(body(status=name, timestamp=at, usage=usage, error=error)) for name, at in statuses]
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"DROP TABLE {table}")
    with pytest.raises(Unavailable):
        await Store(engine).handle(events)
    assert await count_rows(engine, "status_events") == await count_rows(engine, "messages") == 0
