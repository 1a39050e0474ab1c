"""What can go wrong with the spool: why it does not keep something, and what its files do instead of what they should.

Every error of SQLite's and the system's is judged here, once.
"""

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


class NotSpooled(Exception):  # noqa: N818 - named for what the caller must know
    """The entries are not kept, or nobody can say whether they are."""

    def __init__(self, why: Why) -> None:
        super().__init__(MEANINGS[why])
        self.why = why


class SpoolFault(Exception):  # noqa: N818 - named for what it tells of the file
    """The base of these; the text is SQLite's or the system's name of it.

    Full     the disk has no room; the file is sound
    Failing  reading, writing or fsync failed: what is in it may be on the disk or not
    Damaged  what is in it is not what was put
    """


class Full(SpoolFault):
    """The disk has no room."""


class Failing(SpoolFault):
    """Reading, writing or fsync failed."""


class Damaged(SpoolFault):
    """What is in it is not what was put."""


_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))
_BY_CODE = {
    sqlite3.SQLITE_FULL: Full,
    sqlite3.SQLITE_CORRUPT: Damaged,
    sqlite3.SQLITE_NOTADB: Damaged,
    sqlite3.SQLITE_TOOBIG: Damaged,
    sqlite3.SQLITE_ERROR: Damaged,  # the table is not there, or is another one
}


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise the SpoolFault that an error of SQLite's or the system's means."""
    try:
        yield
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_IOERR)
        name = getattr(exc, "sqlite_errorname", type(exc).__name__)
        raise _BY_CODE.get(code & 0xFF, Failing)(name) from exc
    except OSError as exc:
        raise (Full if exc.errno in _NO_ROOM else Failing)(errno.errorcode.get(exc.errno or 0, "unknown")) from exc
