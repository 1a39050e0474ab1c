"""Erases entries of spool folders that no running process has, and looks into those that one has.

The rows of a file are numbered without gaps, so the others get new numbers, in one transaction of SQLite. Entries
that Redis has confirmed already are still in the file; they are removed too.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import hiredis

from ingest.spool.database import connect, wal_path
from ingest.spool.errors import Damaged, SpoolFault, translate_errors
from ingest.spool.file import SpoolFile, write_marks
from ingest.spool.record import Row, checksum, is_sound, row_bytes

ROWS_AT_ONCE = 500
COPY_TIMES = 5


@dataclass(frozen=True, slots=True)
class SpooledEntry:
    """An entry of a file. ``flat`` has the names and values of its fields in turn."""

    number: int
    flat: list[bytes]


def read_entries(path: Path) -> Iterator[SpooledEntry]:
    """Yield all entries of a file in a locked folder, also confirmed ones. Raises SpoolFault."""
    with closing(connect(path)) as connection:
        for row in _read_rows(connection):
            yield _parse(row)


def read_running(path: Path) -> Iterator[SpooledEntry]:
    """Yield the entries of a file that a running ingest has, from a copy. Raises SpoolFault if no copy is whole."""
    with tempfile.TemporaryDirectory(prefix="ackstream-spool-") as name:
        copy = Path(name) / path.name
        with translate_errors():
            _copy(path, copy)
        yield from read_entries(copy)


def erase_entries(path: Path, belongs: Callable[[SpooledEntry], bool]) -> int:
    """Remove the entries for which ``belongs`` is true from a file in a locked folder; return their number.

    An empty file is deleted. Raises SpoolFault; the file is then as it was.
    """
    erased = 0
    with closing(connect(path)) as connection, translate_errors():
        _, confirmed = connection.execute("SELECT last, confirmed FROM marks").fetchone()
        connection.execute("PRAGMA secure_delete = ON").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        try:
            last = size = 0
            for row in _read_rows(connection):
                number, received_ms, _, fields = row
                connection.execute("DELETE FROM entries WHERE number = ?", (number,))
                is_erased = belongs(_parse(row))
                erased += is_erased
                if number > confirmed and not is_erased:
                    last += 1
                    size += row_bytes(row)
                    values = (last, received_ms, checksum(last, fields), fields)
                    connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", values)
            write_marks(connection, last, 0, size)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    if not last:
        SpoolFile(path).remove()
    return erased


def _read_rows(connection: sqlite3.Connection) -> Iterator[Row]:
    """Yield the rows of a file; the caller may change rows that it has got. Raises Damaged."""
    after = 0
    with translate_errors():
        query = "SELECT number, received_ms, checksum, fields FROM entries WHERE number > ? ORDER BY number LIMIT ?"
        while rows := connection.execute(query, (after, ROWS_AT_ONCE)).fetchall():
            for row in rows:
                if not is_sound(row):
                    raise Damaged("an entry does not match its checksum")
                yield row
            after = rows[-1][0]


def _parse(row: Row) -> SpooledEntry:
    reader = hiredis.Reader()
    reader.feed(row[3])
    return SpooledEntry(row[0], reader.gets())


def _copy(path: Path, copy: Path) -> None:
    """Copy a file and its write-ahead log. A checkpoint in between changes both, so the copy is made again."""
    for _ in range(COPY_TIMES):
        before = _stamp(path)
        for source, target in ((wal_path(path), wal_path(copy)), (path, copy)):
            target.unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.copyfile(source, target)
        if _stamp(path) == before:
            return
    raise SpoolFault("in use")


def _stamp(path: Path) -> tuple[int, int]:
    """Return the time at which the file changed: only a checkpoint changes it."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_mtime_ns, status.st_size
    return 0, 0
