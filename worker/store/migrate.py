"""``ackstream migrate``: brings the tables up to date while workers write, one process at a time.

A short transaction changes the tables. Afterwards, in steps that can be interrupted and repeated, missing indexes are
made and the messages that an earlier version has written are counted.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.tasks import Backoff
from worker.store import migrations
from worker.store.database import close_engine, open_connection, open_engine
from worker.store.migrations.indexes import make_indexes
from worker.store.migrations.recount import recount_stale
from worker.store.revision import check_tables, read_revision
from worker.store.tables import REVISION

LOCK = 0x61636B73  # "acks"
MOST_LOCK_FAILURES = 30
"""The tables are locked for a moment. New statements queue up behind a lock that waits, so it waits for 2 s at most."""

Report = Callable[[str], None]


def _report_nothing(_text: str) -> None:
    pass


async def migrate(engine: AsyncEngine, report: Report = _report_nothing) -> None:
    """Run the missing migrations. A second process waits and then has nothing to do.

    Tables of a later version stay as they are. Raises DatabaseAway, SchemaMismatch if this version cannot work with
    them, or an error of the database.
    """
    async with open_connection(engine) as connection:
        if (await read_revision(connection) or "") > REVISION:
            await check_tables(connection)
            return
    async with _exclude_others(engine, report):
        await _upgrade(engine, report)
        await recount_stale(engine, report)
        await make_indexes(engine, report)
        await recount_stale(engine, report)


async def migrate_at(database_url: str, report: Report = _report_nothing) -> None:
    """Migrate the database at this URL; a missing SQLite file is created. Raises the errors of ``migrate``."""
    engine = open_engine(database_url, create=True)
    try:
        await migrate(engine, report)
    finally:
        await close_engine(engine)


@asynccontextmanager
async def _exclude_others(engine: AsyncEngine, report: Report) -> AsyncIterator[None]:
    """Hold the lock of PostgreSQL that one ``migrate`` at a time has.

    An idle transaction holds it, because a lock of a session does not work behind a pooler. CREATE INDEX CONCURRENTLY
    waits for every transaction with a snapshot, so a transaction without the lock ends at once, and the one with the
    lock drops its snapshot: it belongs to the last portal of the driver, which a simple query closes.
    """
    if engine.dialect.name == "sqlite":
        yield
        return
    backoff, is_reported = Backoff(0.1, 2.0), False
    while True:
        async with open_connection(engine) as connection, connection.begin():
            await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            if (await connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK})).scalar():
                driver: Any = (await connection.get_raw_connection()).driver_connection
                await driver.execute("SELECT 1")
                yield
                return
        if not is_reported:
            report("waiting for another `ackstream migrate`")
            is_reported = True
        await backoff.wait()


async def _upgrade(engine: AsyncEngine, report: Report) -> None:
    """Run the missing revisions in one transaction, again if a table is locked."""
    failures = 0
    while True:
        try:
            async with open_connection(engine) as connection:
                if await read_revision(connection) == REVISION:
                    return
                async with connection.begin():  # on SQLite this takes the write lock
                    if engine.dialect.name == "postgresql":
                        await connection.execute(text("SET LOCAL lock_timeout = '2s'"))
                    await connection.run_sync(upgrade)
        except DBAPIError as exc:
            failures += 1
            if getattr(exc.orig, "sqlstate", None) != "55P03" or failures > MOST_LOCK_FAILURES:  # lock_not_available
                raise
            report("a transaction of another program has locked the tables; trying again")


def upgrade(connection: Connection) -> None:
    """Run the missing migrations on this connection, inside its transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
