"""SQLite files with all tables: copies of one that migrations make. And waiting for locks of PostgreSQL."""

import asyncio
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.waiting import until
from worker.store.migrate import migrate_at


def make_sqlite(file: Path) -> str:
    """Make a file with all tables and without rows; return its URL."""
    file.write_bytes(_read_migrated())
    return f"sqlite:///{file}"


@cache
def _read_migrated() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "tables.db"
        migrate_in_thread(f"sqlite:///{file}")
        return file.read_bytes()


def migrate_in_thread(database_url: str) -> None:
    """Migrate a database in a thread, because the loop of a test may run in this one."""
    migration = Thread(target=lambda: asyncio.run(migrate_at(database_url)))
    migration.start()
    migration.join()


async def wait_for_locks(engine: AsyncEngine, number: int) -> None:
    """Return when this number of connections to a database of PostgreSQL wait for a lock."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def has_waiting() -> bool:
        async with engine.connect() as connection:  # a transaction sees the same activity until its end
            return bool((await connection.execute(text(sql))).scalar_one() == number)

    await until(has_waiting)
