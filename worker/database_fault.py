"""Explains errors of SQLite and PostgreSQL to people: what is wrong, and the next step. No I/O.

The texts hold no values of a database. worker.store.database decides for which errors ``store`` waits.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from stream.redis.client import describe_error

MOST_CAUSES = 6


class DatabaseFault(NamedTuple):
    """A kind of fault: two phrases for the operator."""

    meaning: str
    next_step: str


AWAY = DatabaseFault(
    "the database is away", "start it, and check host, user, password and name in ACKSTREAM_DATABASE_URL"
)
DENIED = DatabaseFault(
    "the database denies this user",
    "check user, password and sslmode in ACKSTREAM_DATABASE_URL, and the user's rights on the tables",
)
MISSING = DatabaseFault("the database does not exist", "create it, or correct its name in ACKSTREAM_DATABASE_URL")
TABLES = DatabaseFault(
    "a table or a column is missing", "run `ackstream migrate`, and check the search_path of this user"
)
LOCKED = DatabaseFault("another program holds a lock of the database", "end its transaction, or wait for its end")
READ_ONLY = DatabaseFault(
    "the database takes no writes", "name the primary in ACKSTREAM_DATABASE_URL, and let this user write"
)
FULL = DatabaseFault("the disk of the database is full", "give it room")
FAILING = DatabaseFault("the disk of the database fails", "look at the disk and at the log of the system")
DAMAGED = DatabaseFault("the file is damaged, or not a database", "restore a backup, see docs/backup.md")
DAMAGED_PART = DatabaseFault(
    "a table, a row or an index is damaged",
    "look at the log of its server: rebuild a damaged index with REINDEX, else restore a backup, see docs/backup.md",
)
UNOPENED = DatabaseFault("the file of the database cannot be opened", "check its path, and the rights on it")
CONNECTIONS = DatabaseFault(
    "the database has too many connections", "end some, or raise max_connections or the limit of this user"
)
RESOURCES = DatabaseFault("the database lacks memory or disk", "give its server more")
CONFLICT = DatabaseFault("transactions of the database conflict", "wait; if it stays, look for long transactions")
STOPPED = DatabaseFault(
    "the database starts, stops, or has cancelled a statement", "wait; if it stays, look at the log of its server"
)
OTHER = DatabaseFault("the database reports an error", "look at the log of its server")

_BY_STATE: Mapping[str, DatabaseFault] = {
    "08": AWAY,
    "25006": READ_ONLY,
    "28": DENIED,
    "3D": MISSING,
    "40": CONFLICT,
    "42501": DENIED,
    "42": TABLES,
    "53100": FULL,
    "53300": CONNECTIONS,
    "53": RESOURCES,
    "55000": AWAY,  # it accepts no connections
    "55P03": LOCKED,
    "57": STOPPED,
    "58P01": DAMAGED_PART,
    "58": FAILING,
    "XX001": DAMAGED_PART,
    "XX002": DAMAGED_PART,
}
"""By SQLSTATE, or its class: https://www.postgresql.org/docs/current/errcodes-appendix.html"""
_PART_STATES = frozenset(("58030", "58P01", "XX001", "XX002"))
"""A block that the disk cannot read, a missing file, a damaged row or index: other events can be stored. If all fail,
the circuit breaker pauses the group, so that no event is given up."""
_BY_CODE: Mapping[int, DatabaseFault] = {
    sqlite3.SQLITE_AUTH: DENIED,
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_CANTOPEN: UNOPENED,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_ERROR: TABLES,
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_IOERR: FAILING,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_PERM: UNOPENED,
    sqlite3.SQLITE_PROTOCOL: LOCKED,
    sqlite3.SQLITE_READONLY: READ_ONLY,
}
_PRIMARY_CODE = 0xFF


def is_partly_damaged(exc: BaseException) -> bool:
    """Whether an error of SQLAlchemy names damage of a part of PostgreSQL that other events may not need."""
    return getattr(getattr(exc, "orig", None), "sqlstate", None) in _PART_STATES


def describe_database_fault(exc: BaseException) -> str:
    """Return the fault behind an error in one sentence: its meaning, the classes of the error, and the next step."""
    fault = identify_database_fault(exc)
    return f"{fault.meaning} ({describe_error(exc)}): {fault.next_step}"


def identify_database_fault(exc: BaseException) -> DatabaseFault:
    """Return the kind of fault behind an error; AWAY if neither it nor its causes have a code."""
    for error in _list_causes(exc):
        if state := str(getattr(error, "sqlstate", None) or ""):
            return _BY_STATE.get(state) or _BY_STATE.get(state[:2], OTHER)
        if (code := getattr(error, "sqlite_errorcode", None)) is not None:
            return _BY_CODE.get(code & _PRIMARY_CODE, OTHER)
    return AWAY


def _list_causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes; SQLAlchemy has that of the driver as ``orig``."""
    error: BaseException | None = exc
    for _ in range(MOST_CAUSES):
        if error is None:
            return
        yield error
        error = getattr(error, "orig", None) or error.__cause__
