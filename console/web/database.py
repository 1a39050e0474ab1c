"""The console's own SQLite file: sessions, sign-in links, tokens, the audit log, and the history of samples.

The server and the commands use the file at the same time. All tasks of a process share one connection without
transactions: each operation is one statement, which SQLite applies whole or not at all.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite

from runtime.disk import make_folder
from runtime.errors import CommandError

BUSY_SECONDS = 5.0
"""How long a statement waits for another writer."""

STEPS: tuple[str, ...] = (
    """
    CREATE TABLE sessions (
        digest BLOB PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, stamp BLOB,
        created_at REAL NOT NULL, used_at REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE links (digest BLOB PRIMARY KEY, role TEXT NOT NULL, expires_at REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE tokens (
        name TEXT PRIMARY KEY, digest BLOB NOT NULL UNIQUE, role TEXT NOT NULL, created_at REAL NOT NULL, used_at REAL
    ) WITHOUT ROWID;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, who TEXT NOT NULL, role TEXT NOT NULL,
        address TEXT NOT NULL, action TEXT NOT NULL, scope TEXT NOT NULL, count INTEGER, why TEXT NOT NULL,
        result TEXT NOT NULL, area TEXT GENERATED ALWAYS AS (substr(action, 1, instr(action || '.', '.') - 1))
    );
    CREATE INDEX audit_at ON audit (at);
    CREATE INDEX audit_who ON audit (who, at);
    CREATE INDEX audit_action ON audit (action, at);
    CREATE INDEX audit_area ON audit (area, at);
    CREATE INDEX audit_who_action ON audit (who, action, at);
    CREATE INDEX audit_who_area ON audit (who, area, at);
    """,
    """
    CREATE TABLE samples (
        tier INTEGER NOT NULL, start INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (tier, start)
    ) WITHOUT ROWID
    """,
)
"""The steps that bring a file up to date. A step that has landed never changes: append a new one."""


@asynccontextmanager
async def open_console_database(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """Open the file, which is created or brought up to date if needed; its mode is 0600, in a folder of mode 0700.

    Raises CommandError if a newer version has written the file, OSError, and sqlite3.Error with a note.
    """
    _create_file(path)
    try:
        async with aiosqlite.connect(path, timeout=BUSY_SECONDS, isolation_level=None) as database:
            await database.execute("PRAGMA journal_mode = WAL")
            await _upgrade(database, path)
            yield database
    except sqlite3.Error as exc:
        exc.add_note(f"the console's database at {path}")
        raise


def _create_file(path: Path) -> None:
    make_folder(path.parent)
    path.touch(0o600)
    path.chmod(0o600)


async def _upgrade(database: aiosqlite.Connection, path: Path) -> None:
    """Apply the missing steps. Several processes may do it at once: one of them applies each step."""
    for number, step in enumerate(STEPS, 1):
        if await _version(database) >= number:
            continue
        await database.execute("BEGIN IMMEDIATE")
        try:
            if await _version(database) < number:
                for statement in filter(str.strip, step.split(";")):
                    await database.execute(statement)
                await database.execute(f"PRAGMA user_version = {number}")
        finally:
            await database.execute("COMMIT" if await _version(database) >= number else "ROLLBACK")
    if await _version(database) > len(STEPS):
        raise CommandError(f"{path} was written by a newer version of Ackstream: upgrade this one")


async def _version(database: aiosqlite.Connection) -> int:
    async with database.execute("PRAGMA user_version") as cursor:
        row = await cursor.fetchone()
    return int(row[0]) if row else 0
