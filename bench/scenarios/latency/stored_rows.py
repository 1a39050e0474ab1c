"""Watch a database for new rows of ``status_events`` on a connection of its own, which sees committed rows only.

A look costs little, because it reads the rows behind the last one only: SQLite by ``rowid``, PostgreSQL by ``ctid``.
That finds all rows if one worker stores one batch after the other into an empty table.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Protocol

import asyncpg

from bench.rig.databases import Databases, Sqlite

LOOK_SECONDS = 0.002
LONGEST_SECONDS = 60.0


class NewRows(Protocol):
    """Reads the ids of the events whose rows came since the last look."""

    def look(self) -> list[str]:
        """Return these ids."""


class SqliteRows:
    """The new rows of a SQLite file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._last = 0

    def look(self) -> list[str]:
        """Read the rows after the last one."""
        sql = "SELECT rowid, event_id FROM status_events WHERE rowid > ? ORDER BY rowid"
        rows = self._connection.execute(sql, (self._last,)).fetchall()
        if rows:
            self._last = rows[-1][0]
        return [event_id for _, event_id in rows]


class PostgresqlRows:
    """The new rows of a table in PostgreSQL, read with the driver: SQLAlchemy would take three times the CPU."""

    def __init__(self, runner: asyncio.Runner, driver: Any) -> None:
        self._runner = runner
        self._driver = driver
        self._last = 0, 0

    def look(self) -> list[str]:
        """Read the rows after the last one."""
        return self._runner.run(self._read())

    async def _read(self) -> list[str]:
        rows = await self._driver.fetch("SELECT ctid, event_id FROM status_events WHERE ctid > $1", self._last)
        self._last = max([self._last, *(tuple(row[0]) for row in rows)])
        return [row[1] for row in rows]


@contextmanager
def open_rows(databases: Databases, url: str) -> Iterator[NewRows]:
    """Open the database of this URL for the block."""
    if isinstance(databases, Sqlite):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            yield SqliteRows(connection)
        return
    with asyncio.Runner() as runner:
        driver = runner.run(asyncpg.connect(url))
        try:
            yield PostgresqlRows(runner, driver)
        finally:
            runner.run(driver.close())


def watch(rows: NewRows, until: float, seen: dict[str, float]) -> None:
    """Note in ``seen`` when the row of each event was first read (``time.monotonic``), until this time."""
    while (now := time.monotonic()) < until:
        for event_id in rows.look():
            seen.setdefault(event_id, time.monotonic())
        time.sleep(max(0.0, now + LOOK_SECONDS - time.monotonic()))
