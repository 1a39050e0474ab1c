import asyncio
import gc
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.tasks import cancel_and_wait
from tests.support.databases import make_sqlite
from tests.support.waiting import PATIENCE_SECONDS
from worker.store.database import close_engine, open_connection, open_engine
from worker.store.migrate import migrate
from worker.store.migrations.indexes import find_missing_indexes
from worker.store.revision import SchemaMismatch, check_revision
from worker.store.tables import metadata


async def test_migrations_make_the_tables_that_the_code_uses(engine: AsyncEngine) -> None:
    """After `migrate` the schema of the database equals worker.store.tables."""

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*expression-based index")  # SQLite does not report them
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    assert not await find_missing_indexes(engine)


async def test_migrations_at_the_same_time_are_harmless(database_url: str) -> None:
    """Several `migrate` at the same time take turns and leave one complete schema."""
    engines = [open_engine(database_url, create=True) for _ in range(3)]
    await asyncio.gather(*(migrate(engine) for engine in engines))
    await check_revision(engines[0])
    for engine in engines:
        await engine.dispose()


async def test_the_switch_to_the_write_ahead_log_waits_for_another_writer(tmp_path: Path) -> None:
    """SQLite refuses the switch at once while another connection writes; the engine tries it again."""
    with closing(sqlite3.connect(tmp_path / "new.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        asyncio.get_running_loop().call_later(0.3, writer.execute, "COMMIT")
        engine = open_engine(f"sqlite:///{tmp_path / 'new.db'}", create=True)
        await migrate(engine)
        await check_revision(engine)
        await engine.dispose()


async def test_an_empty_database_is_refused_with_the_next_step(database_url: str) -> None:
    """A command refuses a database without tables with a sentence that names `ackstream migrate`."""
    engine = open_engine(database_url, create=True)
    with pytest.raises(SchemaMismatch, match=r"revision none.*run `ackstream migrate`"):
        await check_revision(engine)
    await engine.dispose()


async def test_calls_in_turn_use_the_same_connection(engine: AsyncEngine) -> None:
    """After two calls at once, calls in turn do not take turns with the two connections.

    SQLite empties the page cache of a connection when another one has written, so each would fill a cache of its own.
    """
    async with open_connection(engine), open_connection(engine):
        pass

    used: set[int] = set()
    for _ in range(4):
        async with open_connection(engine) as connection:
            used.add(id((await connection.get_raw_connection()).driver_connection))

    assert len(used) == 1


async def cut_off(url: str, locked: sqlite3.Connection) -> None:
    """Cancel a statement that waits for a lock until it ends, and close its engine."""
    engine = open_engine(url)
    is_sent = asyncio.Event()
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *_: is_sent.set())

    async def write() -> None:
        async with open_connection(engine) as connection, connection.begin():
            pass

    writing = asyncio.create_task(write())
    await is_sent.wait()
    await cancel_and_wait([writing])
    locked.execute("ROLLBACK")
    await close_engine(engine)


def test_a_statement_that_was_cut_off_leaves_no_thread(tmp_path: Path) -> None:
    """A loop that ends after the engine is closed ends at once, and no thread of the driver runs into its end."""
    url, before = make_sqlite(tmp_path / "cut.db"), set(threading.enumerate())
    with closing(sqlite3.connect(tmp_path / "cut.db", isolation_level=None, check_same_thread=False)) as locked:
        locked.execute("BEGIN IMMEDIATE")
        loop = threading.Thread(target=asyncio.run, args=(cut_off(url, locked),), daemon=True)
        loop.start()
        loop.join(60)

    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_SECONDS)
    assert set(threading.enumerate()) == before


async def test_a_cancelled_call_leaves_no_lock(tmp_path: Path) -> None:
    """Once the call has ended another process can write, although the garbage collector has not run."""
    url = make_sqlite(tmp_path / "cancelled.db")
    engine = open_engine(url)
    is_running, is_cancelled = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def stall() -> int:
        loop.call_soon_threadsafe(is_running.set)
        is_cancelled.wait(60)
        return 1

    @event.listens_for(engine.sync_engine, "connect")
    def add_function(connection: Any, _record: Any) -> None:
        connection.run_async(lambda driver: driver.create_function("stall", 0, stall))

    async def write() -> None:
        async with open_connection(engine) as connection, connection.begin():
            await connection.exec_driver_sql("DELETE FROM messages")
            await connection.exec_driver_sql("SELECT stall()")

    with collect_no_garbage(), closing(sqlite3.connect(tmp_path / "cancelled.db", timeout=0)) as other:
        writing = asyncio.create_task(write())
        await is_running.wait()
        loop.call_soon(is_cancelled.set)
        await cancel_and_wait([writing])

        other.execute("BEGIN IMMEDIATE")
        other.rollback()
    await close_engine(engine)


@contextmanager
def collect_no_garbage() -> Iterator[None]:
    """Leave cycles of references as they are while the block runs."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
