"""SQLite files with all tables. Migrations make the first one of a process, and the others are its copies."""

import asyncio
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

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
