"""Whether the tables of a database are such that this version can work with them.

Revisions have four digits, and later ones are greater. A later version may run beside this one: its migration says in
``ackstream_schema`` which is the earliest revision whose code still reads and writes these tables.
"""

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.errors import Refusal
from worker.store.database import open_connection
from worker.store.tables import REVISION


class SchemaMismatch(Refusal):
    """The tables are not those that this code needs; the text says what to do."""


async def check_revision(engine: AsyncEngine) -> None:
    """Raise SchemaMismatch unless this version can work with the tables; DatabaseAway, and what the database raises."""
    async with open_connection(engine) as connection:
        await check_tables(connection)


async def check_tables(connection: AsyncConnection) -> str:
    """Do the same on this connection, which is in no transaction; return the revision."""
    revision = await read_revision(connection)
    if revision is None or revision < REVISION:
        raise SchemaMismatch(
            f"the database's tables are at revision {revision or 'none'}, this version needs {REVISION}: "
            "run `ackstream migrate` with this version"
        )
    if revision > REVISION:
        earliest = await _read(connection, "SELECT earliest_revision FROM ackstream_schema")
        if earliest is None or earliest > REVISION:
            raise SchemaMismatch(
                f"the database's tables are at revision {revision}, which this version ({REVISION}) cannot work with: "
                "start the later version that made them"
            )
    return revision


async def read_revision(connection: AsyncConnection) -> str | None:
    """Return the migration that the database stands at; None before the first."""
    return await _read(connection, "SELECT version_num FROM alembic_version")


async def _read(connection: AsyncConnection, statement: str) -> str | None:
    """Return the one value; None where there is no such table."""
    try:
        async with connection.begin():
            value: str | None = (await connection.execute(text(statement))).scalar_one_or_none()
    except DBAPIError as exc:
        if statement.rpartition(" ")[2] in str(exc.orig):  # no such table, in the words of either database
            return None
        raise
    return value
