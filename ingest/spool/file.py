"""A file of the spool: a SQLite database with entries in the order of their arrival.

Entries are numbered from 1 without gaps and never deleted. The table ``marks`` holds the numbers of the last entry and
of the last confirmed entry. So a damaged page hides only its own entries, and the missing ones can be counted. The file
is deleted when all of its entries are confirmed.

Entries are on the disk when ``put`` returns (WAL, ``synchronous=FULL``). The folder's lock ensures that only one
process uses the file. SQLite's exclusive lock keeps other programs out, and avoids shared memory, which a full disk
cannot provide.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zlib import crc32

from ingest.encoding import Packed
from ingest.spool.database import LAYOUT, connect, create, wal_path
from ingest.spool.errors import Damaged, Failing, Full, SpoolFault, translate_errors
from ingest.spool.record import Row, Slice, entries_bytes, make_rows, row_bytes, row_received_ms
from ingest.spool.salvage import Pages

CHECKPOINT_BYTES = 4 * 1024 * 1024
COPIED_ENTRIES = 1000
REMOVED = "it was removed or replaced"

_SELECT = "SELECT number, received_ms, checksum, fields FROM entries"

_COMMIT_BYTES = 3 * 4096  # approximate size of the pages that a commit writes besides its rows


class SpoolFile:
    """A file in a folder that this process has locked. Its methods raise SpoolFault."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        """The known number of unconfirmed entries."""
        self.bytes = 0
        """Their size."""
        self.written_bytes = 0
        """Bytes that this process has written to the file."""
        self.oldest_ms: int | None = None
        """The approximate receive time of the first unconfirmed entry."""
        self.sealed = False
        """Whether the file accepts no more entries."""
        self.damaged = False
        """Whether parts of the file cannot be read. A damaged file is also sealed."""
        self.behind = False
        """Whether the disk was too full to record the confirmed entries."""
        self._looked_at = False
        self._confirmed = 0
        self._last = 0
        self._logged_bytes = 0  # approximate size of the WAL
        self._opened: sqlite3.Connection | None = None
        self._statuses: dict[Path, os.stat_result] = {}
        self._salvaged: Pages | None = None

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = connect(self.path)
            self._statuses = {path: path.stat() for path in (self.path, wal_path(self.path)) if path.exists()}
        return self._opened

    @classmethod
    def create(cls, path: Path) -> Self:
        """Create a new file atomically."""
        create(path)
        file = cls(path)
        file._looked_at = True
        file._row("SELECT last FROM marks")  # opens the file
        return file

    @classmethod
    def recover(cls, path: Path) -> Self:
        """Use a file of an earlier process. Call ``inspect`` next."""
        file = cls(path)
        file.rows = 1  # at least one, until it is inspected
        return file

    @classmethod
    def peek(cls, path: Path) -> Self:
        """Return a file of an earlier process, closed, with the number of its entries as far as it can be read."""
        file = cls.recover(path)
        with suppress(SpoolFault):
            file.inspect()
        return file

    def inspect(self) -> None:
        """Read the marks, and close the file. Raises Damaged if nothing can be read."""
        try:
            self._inspect()
        finally:
            self.close()

    def put(self, entries: Sequence[Packed]) -> None:
        """Add all entries, or none if an error is raised: also if the file was removed, and so would end with us."""
        rows = make_rows(entries, self._last + 1)
        size = entries_bytes(entries)
        with self._transaction(size):
            self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", rows)
            write_marks(self._connection, rows[-1][0], self._confirmed, self.bytes + size)
        if self.is_removed:
            raise Failing(REMOVED)
        self._last = rows[-1][0]
        self.oldest_ms = self.oldest_ms or rows[0][1]
        self.rows += len(rows)
        self.bytes += size
        self.written_bytes += size

    def read(self, max_entries: int, max_bytes: int) -> Slice | None:
        """Return the first unconfirmed entries, at least one; None if no entry can be read."""
        if not self._looked_at:
            try:
                self._inspect()
            except Damaged:
                self.damaged = self.sealed = True
                return None
        rows: list[Row] = []
        last, size = self._confirmed, 0
        while last < self._last and len(rows) < max_entries and size < max_bytes:
            before = last
            with suppress(Damaged):
                for row in self._rows_from(last + 1, max_entries - len(rows)):
                    size += row_bytes(row)
                    if rows and size > max_bytes:
                        break
                    rows.append(row)
                    last += 1
            if last == before and size <= max_bytes:
                salvaged = self._pages.rows_after(last)
                rows += salvaged
                size += sum(map(row_bytes, salvaged))
                last = salvaged[-1][0] if salvaged else self._last
        part = Slice.from_rows(rows, self._confirmed, last) if rows else None
        if last > self._confirmed and (part is None or part.damaged):
            self.damaged = self.sealed = True
        return part

    def confirm(self, part: Slice) -> None:
        """Mark the entries as confirmed. If the disk is too full for the mark, they are drained again after a crash."""
        self._confirmed = part.last
        self.rows = self._last - self._confirmed
        self.bytes = max(0, self.bytes - part.bytes) if self.rows else 0
        self.oldest_ms = part.received_ms if self.rows else None
        if not self.sealed:
            try:
                with self._transaction(0, durable=False):
                    write_marks(self._connection, self._last, self._confirmed, self.bytes)
                self.behind = False
            except Full:
                self.behind = True
            except Damaged:
                self.damaged = self.sealed = True

    @property
    def is_removed(self) -> bool:
        """Whether the open file or its log has lost its name, and so would end with this process."""
        return not all(map(self._is_ours, self._statuses))

    def copy_to(self, other: "SpoolFile") -> None:
        """Move the unconfirmed entries to another file."""
        while (part := self.read(COPIED_ENTRIES, CHECKPOINT_BYTES)) is not None:
            if part.entries:
                other.put([(part.received_ms or 0, packed) for packed in part.entries])
            self.confirm(part)

    def size_bytes(self) -> int:
        """Return the size of the file and its WAL on the disk, as far as it can be read."""
        size = 0
        for path in (self.path, wal_path(self.path)):
            with suppress(OSError):
                size += path.stat().st_size
        return size

    def close(self) -> None:
        """Close the file. It is opened again on its next use."""
        opened, self._opened, self._statuses = self._opened, None, {}
        if opened is not None:
            with suppress(sqlite3.Error):
                opened.close()

    def remove(self) -> None:
        """Close and delete the file."""
        names = [path for path in (wal_path(self.path), self.path) if self._is_ours(path)]
        self.close()
        with translate_errors():
            for path in names:
                path.unlink(missing_ok=True)

    def set_aside(self) -> Path:
        """Close the file and rename it and its WAL for an operator to examine; return the new name."""
        self.close()
        aside = self.path.with_suffix(".damaged")
        with translate_errors():
            self.path.rename(aside)
            with suppress(FileNotFoundError):
                wal_path(self.path).rename(wal_path(aside))
        return aside

    def _inspect(self) -> None:
        try:
            is_ours = self._row("PRAGMA user_version") == (LAYOUT,)
            marks = self._row("SELECT * FROM marks") if is_ours else None
            self._last, self._confirmed, self.bytes = _check_marks(marks)
        except Damaged:
            self._last, self.bytes = self._pages.last, self.size_bytes()
            if not self._last:
                raise
        self._looked_at = True
        self.rows = self._last - self._confirmed
        with suppress(Damaged):  # `read` detects it again
            self.oldest_ms = next((row_received_ms(row) for row in self._rows_from(self._confirmed + 1, 1)), None)

    def _is_ours(self, path: Path) -> bool:
        """Whether a name leads to a file that is open here, or nothing is open."""
        try:
            return path not in self._statuses or os.path.samestat(self._statuses[path], path.stat())
        except OSError:
            return False

    @property
    def _pages(self) -> Pages:
        """The pages that can be read without SQLite. They are read once, when damage is detected."""
        if self._salvaged is None:
            self.damaged = self.sealed = True
            self._salvaged = Pages.read(self.path, wal_path(self.path))
        return self._salvaged

    def _row(self, query: str, *values: int) -> Any:
        with translate_errors():
            return self._connection.execute(query, values).fetchone()

    def _rows_from(self, number: int, limit: int) -> Iterator[Row]:
        """Yield rows from this number on. Raises Damaged at the first damaged row."""
        query = f"{_SELECT} WHERE number >= ? AND number <= ? ORDER BY number LIMIT ?"
        with translate_errors():
            for row in self._connection.execute(query, (number, self._last, limit)):
                if row[0] != number:
                    raise Damaged("a number is missing")
                number += 1
                yield row

    @contextmanager
    def _transaction(self, size: int, *, durable: bool = True) -> Iterator[None]:
        """Run the block in a transaction that writes ``size`` bytes. A large WAL is checkpointed first."""
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


@dataclass(frozen=True, slots=True)
class Chunk:
    """Entries for Redis, and the file that holds them."""

    file: SpoolFile
    slice: Slice


def write_marks(connection: sqlite3.Connection, last: int, confirmed: int, size: int) -> None:
    """Write the numbers of the last and of the last confirmed entry, and the bytes of those that are not confirmed."""
    marks = (last, confirmed, size, _checksum(last, confirmed, size))
    connection.execute("UPDATE marks SET last = ?, confirmed = ?, bytes = ?, checksum = ?", marks)


def _checksum(last: int, confirmed: int, size: int) -> int:
    return crc32(b"%d %d %d" % (last, confirmed, size))


def _check_marks(marks: Any) -> tuple[int, int, int]:
    """Return the marks without their checksum. Raises Damaged if the checksum is wrong."""
    if marks == (0, 0, 0, None):  # a new file
        return 0, 0, 0
    if not marks or not all(isinstance(mark, int) for mark in marks) or _checksum(*marks[:3]) != marks[3]:
        raise Damaged("the checksum of its marks is wrong")
    return marks[0], marks[1], marks[2]
