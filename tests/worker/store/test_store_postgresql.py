"""`store` on PostgreSQL: its statements, its locks, and connections that are lost between two batches."""

import asyncio
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tests.support.databases import wait_for_locks
from tests.support.samples.events import body, event
from tests.support.waiting import until
from tests.support.workers.rollup_rows import count_sums, read_sums
from tests.support.workers.store_rows import count_rows, project_rows, project_states, read_rows
from worker.handlers.errors import Unavailable
from worker.store import database
from worker.store.database import open_engine
from worker.store.handler import Store
from worker.store.postgresql.connection import PlanningConnection

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])


async def close_connections(url: str) -> None:
    """Let the server close all connections of other clients to this database."""
    other = open_engine(url)
    async with other.connect() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() "
                "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )
    await other.dispose()


async def test_a_connection_lost_while_idle_fails_no_batch(
    engine: AsyncEngine, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was idle is tested before its use and replaced."""
    monkeypatch.setattr(database, "UNTESTED_SECONDS", 0)
    store = Store(engine)
    await store.handle([event(body(n=1))])

    await close_connections(migrated_url)
    await store.handle([event(body(n=2))])

    assert await count_rows(engine, "status_events") == 2


async def test_a_connection_lost_between_two_batches_fails_one(
    engine: AsyncEngine, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection in constant use is not tested: if it is lost, a batch waits for the database and is tried again."""
    monkeypatch.setattr(database, "UNTESTED_SECONDS", 600)
    store = Store(engine)
    await store.handle([event(body(n=1))])

    await close_connections(migrated_url)
    with pytest.raises(Unavailable):
        await store.handle([event(body(n=2))])
    await store.handle([event(body(n=2))])

    assert await count_rows(engine, "status_events") == 2


async def read_limits(connection: AsyncConnection) -> list[str]:
    names = ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
    return [(await connection.execute(text(f"SHOW {name}"))).scalar_one() for name in names]


async def test_each_transaction_has_the_limits(engine: AsyncEngine) -> None:
    """The server ends a transaction that hangs, so that other writers continue. No limit stays in the session."""
    for _ in range(2):
        async with engine.begin() as connection:
            assert await read_limits(connection) == ["15s", "10s", "30s"]
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            assert await read_limits(connection) == ["0", "0", "0"]


async def test_a_transaction_that_fails_at_its_start_is_not_continued(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next batch uses another connection, because nothing has ended the transaction of this one."""
    monkeypatch.setattr(database, "UNTESTED_SECONDS", 600)
    store = Store(engine)
    await store.handle([event(body(n=1))])

    with monkeypatch.context() as limits:
        limits.setattr(PlanningConnection, "settings", "SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)")
        with pytest.raises(Unavailable):
            await store.handle([event(body(n=2))])
    await store.handle([event(body(n=2))])

    assert await count_rows(engine, "status_events") == 2


async def test_the_server_plans_a_statement_once(engine: AsyncEngine) -> None:
    """It makes no plan for a batch of another size."""
    store = Store(engine)
    for size in (1, 3, 20):
        await store.handle([event(body(message_uuid=f"m-{n}", size=size)) for n in range(size)])

    query = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE 'WITH %'"
    async with engine.connect() as connection:
        plans = (await connection.execute(text(query))).all()
    assert [tuple(each) for each in plans] == [(3, 0), (3, 0)]


async def test_the_plans_use_the_indexes_while_tables_are_small(engine: AsyncEngine, migrated_url: str) -> None:
    """A plan is kept while its table grows, so a scan of the whole table would become slow."""
    store = Store(engine)
    for status in ("submitted", "delivered", "delivered", "read"):
        await store.handle([event(body(message_uuid=f"m-{n}", status=status)) for n in range(20)])
    await engine.dispose()  # the server counts the scans of a connection when it ends

    tables = "'messages', 'status_events'"
    query = f"SELECT sum(idx_scan) > 0, sum(seq_scan) FROM pg_stat_user_tables WHERE relname IN ({tables})"  # noqa: S608 - constants
    other = open_engine(migrated_url)

    async def are_by_index() -> bool:
        async with other.connect() as connection:
            return tuple((await connection.execute(text(query))).one()) == (True, 0)

    await until(are_by_index)
    await other.dispose()


async def test_statements_that_the_server_has_forgotten_fail_one_batch(engine: AsyncEngine) -> None:
    """The next batch has a new connection, which prepares them again."""
    store = Store(engine)
    await store.handle([event(body(n=1))])
    async with engine.connect() as connection:
        await connection.execute(text("DEALLOCATE ALL"))

    with pytest.raises(Unavailable):
        await store.handle([event(body(n=2))])
    await store.handle([event(body(n=2))])

    assert await count_rows(engine, "status_events") == 2


async def test_a_batch_of_new_and_known_messages_takes_two_statements(engine: AsyncEngine) -> None:
    """One inserts and locks the messages, one writes all rows."""
    store, statements = Store(engine), list[str]()
    await store.handle([event(body(status="submitted"))])

    @sqlalchemy.event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        statements.append(sql)

    events = [event(body(status="delivered")), event(body(message_uuid="m-2", status="submitted"))]
    await store.handle(events)

    assert len(statements) == 2


async def test_a_message_that_another_writer_inserts_meanwhile_is_counted_once(
    engine: AsyncEngine, migrated_url: str
) -> None:
    """A writer that waited for the row of another one reads its state, although its statement began before."""
    second = open_engine(migrated_url)
    events = [event(body(status="submitted")), event(body(status="delivered"))]
    async with engine.connect() as holder, asyncio.TaskGroup() as writers:
        await holder.execute(text("LOCK TABLE rollup_dimensions IN EXCLUSIVE MODE"))
        writers.create_task(Store(engine).handle(events[:1]))
        await wait_for_locks(engine, 1)
        writers.create_task(Store(second).handle(events[1:]))
        await wait_for_locks(engine, 2)

        await holder.rollback()

    assert (await read_rows(engine))[0] == project_rows(events)
    assert await read_sums(engine) == count_sums(project_states(events).values())
    await second.dispose()
