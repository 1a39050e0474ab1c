"""Opens a read of the tables of ``store`` with a limit for its time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
    """Yield a connection in a read-only transaction that ends after this time.

    Raises QueryTooSlow, DatabaseAway, or an error of the database.
    """
    message = f"the database did not answer within {seconds:g} s: choose a shorter time or more filters"
    try:
        async with asyncio.timeout(seconds + 1), open_connection(engine) as connection, connection.begin():
            if engine.dialect.name == "postgresql":
                await connection.execute(_LIMIT, {"ms": f"{seconds * 1000:.0f}"})
            yield connection
    except TimeoutError as exc:
        raise QueryTooSlow(message) from exc
    except DBAPIError as exc:
        if getattr(exc.orig, "sqlstate", None) == _CANCELED:
            raise QueryTooSlow(message) from exc
        raise
