"""Errors of the spool and of its files. Errors of SQLite and of the operating system are translated here."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Why = Literal["full", "volume", "disk", "failing", "stuck"]

MEANINGS: dict[Why, str] = {
    "full": "the spool is full (ACKSTREAM_SPOOL_BYTES)",
    "volume": "the spool's volume is nearly full",
    "disk": "the spool's disk is full",
    "failing": "the spool's disk fails",
    "stuck": "the spool's disk does not answer",
}


class NotSpooled(Exception):  # noqa: N818 - named for the outcome
    """The entries are not in the spool, or their state is unknown."""

    def __init__(self, why: Why) -> None:
        super().__init__(MEANINGS[why])
        self.why = why


class SpoolFault(Exception):  # noqa: N818 - named for the state of the file
    """An error of a spool file. The text is the name of SQLite's or the system's error."""


class Full(SpoolFault):
    """The disk has no room; the file is sound."""


class Failing(SpoolFault):
    """Reading, writing or fsync failed; recent entries may be missing on the disk."""


class Damaged(SpoolFault):
    """The content of the file is not as it was written."""


_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))
_BY_CODE = {
    sqlite3.SQLITE_FULL: Full,
    sqlite3.SQLITE_CORRUPT: Damaged,
    sqlite3.SQLITE_NOTADB: Damaged,
    sqlite3.SQLITE_TOOBIG: Damaged,
    sqlite3.SQLITE_ERROR: Damaged,  # the table is missing or has other columns
}


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate errors of SQLite and of the operating system to a SpoolFault."""
    try:
        yield
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_IOERR)
        name = getattr(exc, "sqlite_errorname", type(exc).__name__)
        raise _BY_CODE.get(code & 0xFF, Failing)(name) from exc
    except OSError as exc:
        raise (Full if exc.errno in _NO_ROOM else Failing)(errno.errorcode.get(exc.errno or 0, "unknown")) from exc
