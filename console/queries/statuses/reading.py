"""Opens a read of the tables of ``store`` with a limit for its time."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.store.database import open_connection

SECONDS = 5.0

_LIMIT = text("SELECT set_config('statement_timeout', :ms, true), set_config('transaction_read_only', 'on', true)")
_CANCELED = "57014"


class QueryTooSlow(Exception):  # noqa: N818 - the caller asks for less
    """The database has not answered within the limit. The text says what to do."""


@asynccontextmanager
async def open_reader(engine: AsyncEngine, seconds: float = SECONDS) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a read-only transaction. The database stops its statements after this time.

    Raises QueryTooSlow, DatabaseAway, or an error of the database.
    """
    timer: asyncio.Task[None] | None = None
    try:
        async with open_connection(engine) as connection, connection.begin():
            if engine.dialect.name == "postgresql":
                await connection.execute(_LIMIT, {"ms": f"{seconds * 1000:.0f}"})
            else:
                timer = asyncio.create_task(_interrupt(connection, seconds))
            yield connection
    except DBAPIError as exc:
        if _is_stopped(exc):
            raise make_too_slow(seconds) from exc
        raise
    finally:
        if timer is not None:
            timer.cancel()


def make_too_slow(seconds: float) -> QueryTooSlow:
    """Return the error of a read that has reached this limit."""
    return QueryTooSlow(f"the database did not answer within {seconds:g} s: choose a shorter time or more filters")


async def _interrupt(connection: AsyncConnection, seconds: float) -> None:
    """Stop the statement that SQLite runs after this time."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await asyncio.sleep(seconds)
    await driver.interrupt()


def _is_stopped(exc: DBAPIError) -> bool:
    code = getattr(exc.orig, "sqlite_errorcode", None)
    return getattr(exc.orig, "sqlstate", None) == _CANCELED or code == sqlite3.SQLITE_INTERRUPT
