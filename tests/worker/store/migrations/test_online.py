"""`migrate` from revision 0002, while workers of both versions write, and from 0003."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.processes import ackstream
from tests.support.samples.events import body, event
from tests.support.waiting import until
from tests.support.workers.rollup_rows import count_sums, read_sums
from tests.support.workers.store_0002 import make_tables, write_as_0002
from tests.support.workers.store_rows import count_rows, project_states
from worker.events.event import StatusEvent
from worker.handlers.errors import Unavailable
from worker.store.database import open_engine
from worker.store.handler import Store
from worker.store.migrate import migrate
from worker.store.migrations.indexes import find_missing_indexes
from worker.store.tables import UNKNOWN_STATUS

OLD_MESSAGES = 4000


def events_of(names: Sequence[str], status: str, second: int) -> list[StatusEvent]:
    """Return an event of each message."""
    at = f"2026-11-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"
    usage = {"price": "0.01", "currency": "EUR"}
    return [event(body(message_uuid=name, status=status, timestamp=at, usage=usage)) for name in names]


async def is_migrated(engine: AsyncEngine) -> bool:
    """Whether all indexes are there and no message is stale."""
    return not await find_missing_indexes(engine) and await count_rows(engine, "messages WHERE stale") == 0


async def test_a_killed_migration_continues_while_old_and_new_workers_write(database_url: str, tmp_path: Path) -> None:
    """After a kill in the middle a second `migrate` ends the work, and the sums equal a count of all states."""
    engine = open_engine(database_url, create=True)
    await make_tables(engine)
    names = [f"m-{n}" for n in range(OLD_MESSAGES)]
    stored = events_of(names, "submitted", 7)
    for start in range(0, OLD_MESSAGES, 500):
        await write_as_0002(engine, stored[start : start + 500])
    stop = asyncio.Event()

    async def write(status: str, second: int, *, is_old: bool) -> None:
        """Write statuses of old and new messages until the end, again after a time-out of SQLite's lock."""
        store, number = Store(engine), 0
        while not stop.is_set():
            names_of_batch = [names[(number * 37 + n * 101) % OLD_MESSAGES] for n in range(5)]
            batch = events_of([*dict.fromkeys(names_of_batch), f"{status}-{number}"], status, second + number)
            with suppress(Unavailable, DBAPIError):
                await (write_as_0002(engine, batch) if is_old else store.handle(batch))
                stored.extend(batch)
                number += 1
            await asyncio.sleep(0.01)

    old = asyncio.create_task(write("delivered", 3000, is_old=True))
    new = asyncio.create_task(write("read", 9000, is_old=False))
    settings = {"database_url": database_url, "data": str(tmp_path)}
    with ackstream("migrate", folder=tmp_path, **settings) as killed:
        await until(lambda: has_rows(engine, "messages WHERE counted IS NOT NULL"))
        killed.send(signal.SIGKILL)
    assert not await is_migrated(engine)
    await migrate(engine)
    stop.set()
    await asyncio.gather(old, new)

    await migrate(engine)

    assert await is_migrated(engine)
    assert await read_sums(engine) == count_sums(project_states(stored).values())
    await engine.dispose()


async def has_rows(engine: AsyncEngine, rows: str) -> bool:
    with suppress(DBAPIError):
        return await count_rows(engine, rows) > 0
    return False


async def test_a_change_by_an_old_worker_is_counted_at_the_next_change(engine: AsyncEngine) -> None:
    """The sums are late by the statuses that only an old worker has written, and right after the next one."""
    submitted, delivered, read = (events_of(["a"], status, 5) for status in ("submitted", "delivered", "read"))
    await Store(engine).handle(submitted)
    await write_as_0002(engine, delivered)
    assert await count_rows(engine, "messages WHERE stale") == 1
    assert await read_sums(engine) == count_sums(project_states(submitted).values())

    await Store(engine).handle(read)

    assert await count_rows(engine, "messages WHERE stale") == 0
    assert await read_sums(engine) == count_sums(project_states([*submitted, *delivered, *read]).values())


async def test_two_migrations_at_the_same_time_count_each_message_once(database_url: str) -> None:
    """The second one waits in PostgreSQL, and in SQLite it finds the rows counted."""
    engines = [open_engine(database_url, create=True) for _ in range(2)]
    await make_tables(engines[0])
    events = events_of([f"m-{n}" for n in range(1200)], "delivered", 60)
    await write_as_0002(engines[0], events)

    await asyncio.gather(*(migrate(engine) for engine in engines))

    assert await read_sums(engines[0]) == count_sums(project_states(events).values())
    for engine in engines:
        await engine.dispose()


async def test_an_invalid_index_is_made_again(postgresql_url: str) -> None:
    """An index that an interrupted `migrate` has left invalid does not stay."""
    engine = open_engine(postgresql_url)
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_messages_to'::regclass")
        )
        await connection.execute(text("DROP INDEX ix_messages_first_at"))

    await migrate(engine)

    assert await is_migrated(engine)
    await engine.dispose()


async def test_a_locked_table_delays_the_migration(postgresql_url: str) -> None:
    """A long transaction of another program does not make workers queue up behind the migration for long."""
    engine = open_engine(postgresql_url)
    await make_tables(engine)
    reports: list[str] = []
    async with engine.begin() as long:
        await long.execute(text("SELECT count(*) FROM messages"))
        task = asyncio.create_task(migrate(engine, reports.append))
        await until(lambda: asyncio.sleep(0.05, bool(reports)))
        async with asyncio.timeout(60):
            await write_as_0002(engine, events_of(["a"], "delivered", 1))
        assert "locked" in reports[0]
    await task
    assert await is_migrated(engine)
    await engine.dispose()


async def test_the_index_of_revision_0003_still_answers_or_is_made_again(engine: AsyncEngine) -> None:
    """The filter for an unknown status uses the index after `migrate` from 0003, on both databases."""
    condition = "status NOT IN ('submitted', 'delivered', 'read', 'rejected', 'undeliverable')"
    is_sqlite = engine.dialect.name == "sqlite"
    async with engine.begin() as connection:
        for statement in (
            "DROP INDEX ix_status_events_unknown",
            f"CREATE INDEX ix_status_events_unknown ON status_events (status, message_uuid) WHERE {condition}",
            "UPDATE alembic_version SET version_num = '0003'",
        ):
            await connection.execute(text(statement))

    await migrate(engine)

    async with engine.begin() as connection:
        if not is_sqlite:
            await connection.execute(text("SET LOCAL enable_seqscan = off"))
        explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
        query = f"SELECT message_uuid FROM status_events WHERE status = 'seen' AND {UNKNOWN_STATUS}"  # noqa: S608 - constants
        plan = (await connection.execute(text(f"{explain} {query}"))).all()
    assert "ix_status_events_unknown" in str(plan)
