"""One file of the spool: entries in the order in which they were put, in SQLite.

Entries are numbered from 1 without a gap and never deleted. The table ``marks`` holds the number put last and the
number confirmed last, so a damaged page hides its own entries and nothing else, and they can be counted. The file
goes as a whole when all of it is confirmed.

Entries are on the disk when ``put`` returns (WAL, ``synchronous=FULL``). One process uses the file, which the
folder's lock ensures; SQLite's own lock keeps out other programs, and so needs no shared memory, which a full disk
could not give.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from zlib import crc32

from ingest.encoding import Packed
from ingest.spool.database import LAYOUT, connect, create, log_of
from ingest.spool.errors import Damaged, Full, translate_errors
from ingest.spool.record import Row, Slice, length_of, row_received_ms, rows_of, size_of
from ingest.spool.salvage import Pages

CHECKPOINT_BYTES = 4 * 1024 * 1024

_SELECT = "SELECT number, received_ms, checksum, fields FROM entries"

_COMMIT_BYTES = 3 * 4096  # the pages that a commit writes beside its rows, about


class SpoolFile:
    """A file of a folder that this process has locked. Its methods raise SpoolFault."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        """Entries that are not confirmed, as far as is known."""
        self.bytes = 0
        """What these take."""
        self.written_bytes = 0
        """What this process has put into it."""
        self.oldest_ms: int | None = None
        """About when the first that is not confirmed was received."""
        self.sealed = False
        """Whether nothing may be written to it any more."""
        self.damaged = False
        """Whether parts of it cannot be read. It is sealed then."""
        self.behind = False
        """Whether the disk was too full to note what is confirmed."""
        self._looked_at = False
        self._confirmed = 0
        self._last = 0
        self._logged_bytes = 0  # that the WAL holds, about
        self._opened: sqlite3.Connection | None = None
        self._salvaged: Pages | None = None

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = connect(self.path)
        return self._opened

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new file; its name is there only once it is whole."""
        create(path)
        file = cls(path)
        file._opened = connect(path)
        file._looked_at = True
        return file

    @classmethod
    def left(cls, path: Path) -> Self:
        """Take a file that an earlier process has left. Call ``look`` first."""
        file = cls(path)
        file.rows = 1  # at least, as far as is known
        return file

    def look(self) -> None:
        """Find out what is in it, and close it. Raises Damaged if nothing can be found."""
        try:
            self._look()
        finally:
            self.close()

    def put(self, entries: Sequence[Packed]) -> None:
        """Add entries: all, or none if it raises."""
        rows = rows_of(entries, self._last + 1)
        size = size_of(entries)
        with self._transaction(size):
            self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", rows)
            self._mark(rows[-1][0], self._confirmed, self.bytes + size)
        self._last = rows[-1][0]
        self.oldest_ms = self.oldest_ms or rows[0][1]
        self.rows += len(rows)
        self.bytes += size
        self.written_bytes += size

    def read(self, most_entries: int, most_bytes: int) -> Slice | None:
        """Return the first entries that are not confirmed, at least one; None if none can be read."""
        if not self._looked_at:
            try:
                self._look()
            except Damaged:
                self.damaged = self.sealed = True
                return None
        rows: list[Row] = []
        last, size = self._confirmed, 0
        while last < self._last and len(rows) < most_entries and size < most_bytes:
            before = last
            with suppress(Damaged):
                for row in self._rows_from(last + 1, most_entries - len(rows)):
                    size += length_of(row)
                    if rows and size > most_bytes:
                        break
                    rows.append(row)
                    last += 1
            if last == before and size <= most_bytes:
                found_rows = self._pages.rows_after(last)
                rows += found_rows
                size += sum(map(length_of, found_rows))
                last = found_rows[-1][0] if found_rows else self._last
        found = Slice.of(rows, self._confirmed, last) if rows else None
        if last > self._confirmed and (found is None or found.damaged):
            self.damaged = self.sealed = True
        return found

    def confirm(self, part: Slice) -> None:
        """Forget them. If the disk is too full to note that, they come again after a crash."""
        self._confirmed = part.last
        self.rows = self._last - self._confirmed
        self.bytes = max(0, self.bytes - part.bytes) if self.rows else 0
        self.oldest_ms = part.received_ms if self.rows else None
        if not self.sealed:
            try:
                with self._transaction(0, durable=False):
                    self._mark(self._last, self._confirmed, self.bytes)
                self.behind = False
            except Full:
                self.behind = True
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
        """Close it. Its entries stay, and it opens by itself when it is used again."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(sqlite3.Error):
                opened.close()

    def remove(self) -> None:
        """Close and delete it."""
        self.close()
        with translate_errors():
            log_of(self.path).unlink(missing_ok=True)
            self.path.unlink()

    def set_aside(self) -> Path:
        """Close and rename it for a person to look at; return its new name. A log that is left goes with it."""
        self.close()
        aside = self.path.with_suffix(".damaged")
        with translate_errors():
            self.path.rename(aside)
            with suppress(FileNotFoundError):
                log_of(self.path).rename(log_of(aside))
        return aside

    def _look(self) -> None:
        try:
            is_ours = self._row("PRAGMA user_version") == (LAYOUT,)
            marks = self._row("SELECT * FROM marks") if is_ours else None
            self._last, self._confirmed, self.bytes = _checked(marks)
        except Damaged:
            self._last, self.bytes = self._pages.last, self.size_bytes()
            if not self._last:
                raise
        self._looked_at = True
        self.rows = self._last - self._confirmed
        with suppress(Damaged):  # found again when it is read
            self.oldest_ms = next((row_received_ms(row) for row in self._rows_from(self._confirmed + 1, 1)), None)

    @property
    def _pages(self) -> Pages:
        """What can be read without SQLite; it is read once, when the file is found damaged."""
        if self._salvaged is None:
            self.damaged = self.sealed = True
            self._salvaged = Pages.read(self.path, log_of(self.path))
        return self._salvaged

    def _row(self, query: str, *values: int) -> Any:
        with translate_errors():
            return self._connection.execute(query, values).fetchone()

    def _rows_from(self, number: int, most: int) -> Iterator[Row]:
        """Yield rows from this number on, up to the first that is damaged, which raises Damaged."""
        query = f"{_SELECT} WHERE number >= ? AND number <= ? ORDER BY number LIMIT ?"
        with translate_errors():
            for row in self._connection.execute(query, (number, self._last, most)):
                if row[0] != number:
                    raise Damaged("a number is missing")
                number += 1
                yield row

    def _mark(self, last: int, confirmed: int, size: int) -> None:
        marks = (last, confirmed, size, _checksum(last, confirmed, size))
        self._connection.execute("UPDATE marks SET last = ?, confirmed = ?, bytes = ?, checksum = ?", marks)

    @contextmanager
    def _transaction(self, size: int, *, durable: bool = True) -> Iterator[None]:
        """Commit what the block does to so many bytes. First the WAL is emptied, if it has grown large."""
        with translate_errors():
            if self._logged_bytes >= CHECKPOINT_BYTES:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._logged_bytes = 0
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            self._logged_bytes += size + _COMMIT_BYTES


def _checksum(last: int, confirmed: int, size: int) -> int:
    return crc32(b"%d %d %d" % (last, confirmed, size))


def _checked(marks: Any) -> tuple[int, int, int]:
    """Return the marks without their checksum. Raises Damaged if they are not what was written."""
    if marks == (0, 0, 0, None):  # nothing was ever put
        return 0, 0, 0
    if not marks or not all(isinstance(mark, int) for mark in marks) or _checksum(*marks[:3]) != marks[3]:
        raise Damaged("its marks are not what was written")
    return marks[0], marks[1], marks[2]
