"""One file of the spool: entries in the order in which they were put, in SQLite.

What was put is on the disk when ``put`` returns (WAL, ``synchronous=FULL``). One process uses the file, which the
folder's lock ensures; SQLite's own lock keeps out whoever looks in, and so needs no shared memory, which a full disk
could not give.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from ingest.encoding import Packed
from ingest.spool.errors import Damaged, Full, judged
from ingest.spool.folder import fsync_folder, log_of
from ingest.spool.record import ROW_BYTES, Row, Slice, length_of, received_ms_of, rows_of, size_of

LAYOUT = 1
CHECKPOINT_BYTES = 4 * 1024 * 1024
LOOKUPS = 10_000  # one by one in a damaged file: more than a damaged page can hide

_SCHEMA = f"""
CREATE TABLE entries (
  number INTEGER PRIMARY KEY, received_ms INTEGER NOT NULL, checksum INTEGER NOT NULL, fields BLOB NOT NULL
);
PRAGMA user_version = {LAYOUT};
"""
_SELECT = "SELECT number, received_ms, checksum, fields FROM entries"

_COMMIT_BYTES = 3 * 4096  # the pages that a commit writes beside its rows, about


class SpoolFile:
    """A file of a folder that this process has locked. Its methods raise SpoolFault."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        """Entries that are not confirmed, as far as is known."""
        self.bytes = 0
        """What the entries take that are not deleted."""
        self.oldest_ms: int | None = None
        """About when the first that is not confirmed was received."""
        self.sealed = False
        """Whether nothing may be written to it any more."""
        self.damaged = False
        """Whether parts of it cannot be read. It is sealed then, and what can be read is looked up one by one."""
        self._looked_at = False
        self._confirmed = 0
        self._last = 0
        self._undeleted_bytes = 0
        self._logged_bytes = 0  # that the WAL holds, about
        self._opened: sqlite3.Connection | None = None

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = _connected(self.path)
        return self._opened

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new file; its name is there only once it is whole."""
        draft = path.with_suffix(".new")
        with judged():
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            making = sqlite3.connect(draft, isolation_level=None)
            try:
                making.executescript(_SCHEMA)
            finally:
                making.close()
            draft.rename(path)
            fsync_folder(path.parent)
        file = cls(path)
        file._opened = _connected(path)
        file._looked_at = True
        return file

    @classmethod
    def left(cls, path: Path) -> Self:
        """Take a file that an earlier process has left. It is to be looked at first."""
        file = cls(path)
        file.rows = 1  # at least, as far as is known
        return file

    def look(self) -> None:
        """Find out what is in it, and close it. Raises Damaged if nothing can be found."""
        try:
            with judged():
                self._look()
        finally:
            self.close()

    def put(self, entries: Sequence[Packed]) -> None:
        """Add entries: all, or none if it raises."""
        rows = rows_of(entries, self._last + 1)
        size = size_of(entries)
        with judged(), self._transaction(size):
            self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", rows)
        self._last += len(rows)
        self.oldest_ms = self.oldest_ms or rows[0][1]
        self.rows += len(rows)
        self.bytes += size

    def read(self, most_entries: int, most_bytes: int) -> Slice | None:
        """Return the first entries that are not confirmed, at least one; None if there is none."""
        if not self.damaged:
            try:
                with judged():
                    if not self._looked_at:
                        self._look()
                    return self._next(most_entries, most_bytes)
            except Damaged:
                self.damaged = self.sealed = True
        try:
            return self._found(self._connection, most_entries, most_bytes)
        except Damaged:
            return None

    def confirm(self, part: Slice) -> None:
        """Forget them. They are deleted; if the disk is too full even for that, with later ones, or with the file."""
        self._confirmed = part.last
        self._undeleted_bytes += part.bytes
        self.rows = max(0, self.rows - len(part.entries) - part.damaged)
        self.oldest_ms = part.received_ms if self.rows else None
        if not self.sealed:
            try:
                with suppress(Full), judged():
                    self._delete()
            except Damaged:
                self.damaged = self.sealed = True

    def size_bytes(self) -> int:
        """Return what it takes on the disk, with its log, as far as that can be known."""
        size = 0
        for path in (self.path, log_of(self.path)):
            with suppress(OSError):
                size += path.stat().st_size
        return size

    def close(self) -> None:
        """Close it; what is in it stays, and it opens by itself when it is used again."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(sqlite3.Error):
                opened.close()

    def remove(self) -> None:
        """Close and delete it."""
        self.close()
        with judged():
            log_of(self.path).unlink(missing_ok=True)
            self.path.unlink()

    def _look(self) -> None:
        (layout,) = self._connection.execute("PRAGMA user_version").fetchone()
        if layout != LAYOUT:
            raise Damaged(f"its layout is {layout}")
        self._looked_at = True
        try:
            self._count()
        except Damaged:
            self.damaged = self.sealed = True

    def _count(self) -> None:
        with judged():
            first = self._connection.execute(f"{_SELECT} LIMIT 1").fetchone()
            if first is None:
                self.rows = 0
                return
            self._confirmed, self.oldest_ms = first[0] - 1, received_ms_of(first)
            counted = "SELECT max(number), count(*), sum(length(fields)) FROM entries"
            self._last, self.rows, fields_bytes = self._connection.execute(counted).fetchone()
            self.bytes = (fields_bytes or 0) + ROW_BYTES * self.rows

    def _next(self, most_entries: int, most_bytes: int) -> Slice | None:
        after = f"{_SELECT} WHERE number > ? ORDER BY number LIMIT ?"
        rows: list[Row] = []
        size = 0
        for row in self._connection.execute(after, (self._confirmed, most_entries)):
            size += length_of(row)
            if rows and size > most_bytes:
                break
            rows.append(row)
        return Slice.of(rows, rows[-1][0], 0) if rows else None

    def _found(self, connection: sqlite3.Connection, most_entries: int, most_bytes: int) -> Slice | None:
        rows: list[Row] = []
        last = size = lost = 0
        for last in range(self._confirmed + 1, self._confirmed + LOOKUPS + 1):
            try:
                with judged():
                    found = connection.execute(f"{_SELECT} WHERE number = ?", (last,)).fetchall()
            except Damaged:
                found = []
                lost += 1
            rows += found
            size += sum(map(length_of, found))
            if len(rows) >= most_entries or size > most_bytes:
                break
        return Slice.of(rows, last, lost) if rows else None

    def _delete(self) -> None:
        """Delete what is confirmed. This alone is not fsynced: at worst it comes again after a power cut."""
        self._connection.execute("PRAGMA synchronous = NORMAL")
        try:
            with self._transaction(self._undeleted_bytes):
                self._connection.execute("DELETE FROM entries WHERE number <= ?", (self._confirmed,))
        finally:
            self._connection.execute("PRAGMA synchronous = FULL")
        self.bytes -= self._undeleted_bytes
        self._undeleted_bytes = 0

    @contextmanager
    def _transaction(self, size: int) -> Iterator[None]:
        """Commit what the block does to so many bytes; before it the WAL is emptied, if it has grown large."""
        if self._logged_bytes >= CHECKPOINT_BYTES:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._logged_bytes = 0
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
        self._logged_bytes += size + _COMMIT_BYTES


def _connected(path: Path) -> sqlite3.Connection:
    with judged():
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        connection.text_factory = bytes
        try:
            for pragma in (
                "locking_mode = EXCLUSIVE",
                "journal_mode = WAL",
                "synchronous = FULL",
                "wal_autocheckpoint = 0",  # SQLite does not tell when its own fails
                "cell_size_check = ON",
                "secure_delete = OFF",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection
