"""Messages are removed from the tables; the roll-ups keep what they counted."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.databases import wait_for_locks
from tests.support.samples.events import RECEIVED_MS, body, event
from tests.support.workers.rollup_rows import count_sums, read_sums
from worker.events.event import StatusEvent
from worker.retention.removal import RemovedRows, remove_messages, remove_old_messages
from worker.store.database import open_engine
from worker.store.handler import Store
from worker.store.projection import project
from worker.store.tables import messages, status_events


def statuses_of(message: str, day: int = 0) -> list[StatusEvent]:
    """Return two events of a message, a day of 2020."""
    at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return [
        event(body(message_uuid=message, status=status, timestamp=(at + timedelta(seconds=n)).isoformat()), RECEIVED_MS)
        for n, status in enumerate(("submitted", "delivered"))
    ]


async def read_ids(engine: AsyncEngine) -> tuple[list[str], list[str]]:
    """Return the ids of the messages in both tables."""
    async with engine.connect() as connection:
        tables = messages.c.message_uuid, status_events.c.message_uuid
        rows = [(await connection.execute(select(column).order_by(column))).scalars().all() for column in tables]
    return list(rows[0]), list(rows[1])


async def test_a_removed_message_stays_in_the_rollups_and_counts_once_more_when_it_comes_back(
    engine: AsyncEngine,
) -> None:
    """Sums never fall. A webhook after the removal makes a new message, and its later statuses change only that one."""
    store, events = Store(engine), [*statuses_of("m-1"), *statuses_of("m-2")]
    await store.handle(events)
    before = await read_sums(engine)

    assert await remove_messages(engine, ["m-1", "unknown"]) == RemovedRows(1, 2)

    assert await read_ids(engine) == (["m-2"], ["m-2", "m-2"])
    assert await read_sums(engine) == before
    submitted, delivered = statuses_of("m-1", day=1)
    await store.handle([submitted])
    assert await read_sums(engine) == before + count_sums([project([submitted])])
    await store.handle([delivered, submitted])
    assert await read_sums(engine) == before + count_sums([project([submitted, delivered])])


async def test_messages_are_removed_while_they_are_written(engine: AsyncEngine) -> None:
    """Writers and removals of the same messages end with whole messages: a row and all events, or neither."""
    store = Store(engine)
    events = [status for number in range(40) for status in statuses_of(f"m-{number}")]

    async def remove() -> None:
        for _ in range(10):
            await remove_messages(engine, [f"m-{number}" for number in range(0, 40, 2)])

    await asyncio.gather(store.handle(events), remove(), Store(engine).handle(list(reversed(events))))
    await remove_messages(engine, [f"m-{number}" for number in range(0, 40, 2)])

    ids, of_events = await read_ids(engine)
    assert ids == sorted(f"m-{number}" for number in range(1, 40, 2))
    assert of_events == sorted(ids * 2)
    sums = await read_sums(engine)
    assert min(sums.values()) > 0


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_message_that_is_stored_during_a_removal_stays(engine: AsyncEngine, migrated_url: str) -> None:
    """The removal does not wait for its writer, because the writer may wait for the other messages of the removal."""
    await Store(engine).handle(statuses_of("b"))
    second = open_engine(migrated_url)
    async with second.connect() as holder, asyncio.TaskGroup() as tasks:
        await holder.execute(text("LOCK TABLE status_events IN SHARE MODE"))
        removal = tasks.create_task(remove_messages(engine, ["a", "b"]))
        await wait_for_locks(engine, 1)  # it has locked b, and cannot delete events
        async with engine.begin() as connection:
            await connection.execute(
                text("INSERT INTO messages (message_uuid, status, statuses) VALUES ('a', '', '{}')")
            )
        tasks.create_task(Store(second).handle([*statuses_of("a"), *statuses_of("b")]))
        await wait_for_locks(engine, 2)  # the writer has locked a, and waits for b

        await holder.rollback()

    assert removal.result() == RemovedRows(1, 2)
    assert await read_ids(engine) == (["a", "b"], ["a", "a", "b", "b"])
    await second.dispose()


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_writers_and_removals_do_not_deadlock(engine: AsyncEngine) -> None:
    """None of them fails, in any order of their statements."""
    names, rng = [f"m-{number}" for number in range(12)], random.Random(7)  # noqa: S311 - a shuffle
    store = Store(engine)

    async def write() -> None:
        for _ in range(40):
            await store.handle([status for name in rng.sample(names, 5) for status in statuses_of(name)])

    async def remove() -> None:
        for _ in range(40):
            await remove_messages(engine, rng.sample(names, 5))

    await asyncio.gather(*(write() for _ in range(4)), *(remove() for _ in range(4)))
    await remove_messages(engine, names)

    assert await read_ids(engine) == ([], [])


async def test_old_messages_are_removed_in_steps(engine: AsyncEngine) -> None:
    """Each step removes the oldest messages, as many as one short transaction may have."""
    await Store(engine).handle([status for day in range(300) for status in statuses_of(f"m-{day:03}", day)])
    before = await read_sums(engine)
    limit = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=250)

    steps = [await remove_old_messages(engine, limit) for _ in range(3)]

    assert steps == [RemovedRows(200, 400), RemovedRows(50, 100), RemovedRows()]
    ids, _ = await read_ids(engine)
    assert ids == [f"m-{day}" for day in range(250, 300)]
    assert await read_sums(engine) == before
