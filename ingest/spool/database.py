"""SQLite as the spool uses it: how a file is made and opened, and what is in a new one."""

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
    """Make a new file; its name is there only once it is whole. Raises SpoolFault."""
    draft = path.with_suffix(".new")
    with translate_errors():
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        making = sqlite3.connect(draft, isolation_level=None)
        try:
            making.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            making.execute("PRAGMA fullfsync = ON")
            making.executescript(_SCHEMA)
            making.execute(f"PRAGMA user_version = {LAYOUT}")
        finally:
            making.close()
        draft.rename(path)
        sync_folder(path.parent)


def connect(path: Path) -> sqlite3.Connection:
    """Open a file, for any thread, with every commit on the disk. Raises SpoolFault."""
    with translate_errors():
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        connection.text_factory = bytes
        try:
            for pragma in (
                "locking_mode = EXCLUSIVE",
                "journal_mode = WAL",
                "synchronous = FULL",
                "fullfsync = ON",  # macOS; elsewhere it changes nothing
                "checkpoint_fullfsync = ON",
                "wal_autocheckpoint = 0",  # SQLite does not tell when its own fails
                "cell_size_check = ON",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection


def log_of(path: Path) -> Path:
    """Return where SQLite keeps the file's write-ahead log."""
    return path.with_name(f"{path.name}-wal")
