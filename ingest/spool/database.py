"""Creates and opens the spool's SQLite files, with their schema and pragmas."""

import os
import sqlite3
from pathlib import Path

from ingest.spool.errors import translate_errors
from runtime.disk import sync_folder

LAYOUT = 2
PAGE_BYTES = 4096

_SCHEMA = """
CREATE TABLE entries (
  number INTEGER PRIMARY KEY, received_ms INTEGER NOT NULL, checksum INTEGER NOT NULL, fields BLOB NOT NULL
);
CREATE TABLE marks (last INTEGER NOT NULL, confirmed INTEGER NOT NULL, bytes INTEGER NOT NULL, checksum INTEGER);
INSERT INTO marks VALUES (0, 0, 0, NULL);
"""


def create(path: Path) -> None:
    """Create a new file atomically. Raises SpoolFault."""
    draft = path.with_suffix(".new")
    with translate_errors():
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        database = sqlite3.connect(draft, isolation_level=None)
        try:
            database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            database.execute("PRAGMA fullfsync = ON")
            database.executescript(_SCHEMA)
            database.execute(f"PRAGMA user_version = {LAYOUT}")
        finally:
            database.close()
        draft.rename(path)
        sync_folder(path.parent)


def connect(path: Path) -> sqlite3.Connection:
    """Open a file, for use by any thread; every commit is synced to the disk. Raises SpoolFault."""
    with translate_errors():
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        connection.text_factory = bytes
        try:
            for pragma in (
                "locking_mode = EXCLUSIVE",
                "journal_mode = WAL",
                "schema_version",  # reads the file, which makes its log
                "synchronous = FULL",
                "fullfsync = ON",  # for macOS; no effect elsewhere
                "checkpoint_fullfsync = ON",
                "wal_autocheckpoint = 0",  # SQLite does not report a failed automatic checkpoint
                "cell_size_check = ON",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection


def wal_path(path: Path) -> Path:
    """Return the path of the file's write-ahead log."""
    return path.with_name(f"{path.name}-wal")
