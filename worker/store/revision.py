"""Checks that this version can work with the tables of a database.

Revisions have four digits, and later revisions are greater. A later version may run at the same time: its migration
writes to ``ackstream_schema`` the earliest revision whose code can still read and write the tables.
"""

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.errors import CommandError
from worker.store.database import open_connection
from worker.store.tables import REVISION


class SchemaMismatch(CommandError):  # noqa: N818 - named for what is wrong
    """The tables have another revision than this code needs; the text names the next step."""


async def check_revision(engine: AsyncEngine) -> None:
    """Raise SchemaMismatch if this version cannot work with the tables, DatabaseAway, or an error of the database."""
    async with open_connection(engine) as connection:
        await check_tables(connection)


async def check_tables(connection: AsyncConnection) -> str:
    """Return the revision. Raise SchemaMismatch as ``check_revision``. The connection must be outside a transaction."""
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
    """Return the revision of the tables; None before the first migration."""
    return await _read(connection, "SELECT version_num FROM alembic_version")


async def _read(connection: AsyncConnection, statement: str) -> str | None:
    """Return the value; None if the table does not exist."""
    try:
        async with connection.begin():
            value: str | None = (await connection.execute(text(statement))).scalar_one_or_none()
    except DBAPIError as exc:
        if statement.rpartition(" ")[2] in str(exc.orig):  # both databases name the missing table
            return None
        raise
    return value
