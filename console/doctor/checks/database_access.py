"""Checks where the file of a database is, and whether the user of the worker may write to PostgreSQL."""

from collections.abc import AsyncIterator, Iterator, Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from console.doctor.file_systems import Weakness, find_file_system, find_weakness
from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from worker.store.database import open_connection
from worker.store.settings import DatabaseSettings
from worker.store.tables import messages, metadata

WEAKNESSES: Mapping[Weakness, str] = {
    Weakness.NETWORK: "database.network",
    Weakness.MEMORY: "database.memory",
    Weakness.CONTAINER: "database.container-layer",
}
RIGHTS = (
    *(("INSERT", name) for name in metadata.tables if name != "ackstream_schema"),
    ("UPDATE", messages.name),
)
"""Rights that `store` needs in any case."""


def judge_file(settings: DatabaseSettings, setup: Setup) -> Iterator[Finding]:
    """Yield a finding about the file system of the SQLite file, which exists."""
    file = settings.sqlite_file
    kind = find_file_system(setup.mounts(), file.resolve()) if file else ""
    if weakness := find_weakness(kind):
        yield make_finding(WEAKNESSES[weakness], kind=kind)


async def find_obstacles(engine: AsyncEngine) -> AsyncIterator[Finding]:
    """Yield why PostgreSQL refuses writes of this user; its tables are those of this version."""
    async with open_connection(engine) as connection, connection.begin():
        if await _ask(connection, "SHOW transaction_read_only") == "on":
            yield make_finding(
                "database.read-only",
                reason="its transactions are read-only, as on a standby",
                step="Set ACKSTREAM_DATABASE_URL to the primary; on a primary set default_transaction_read_only to off",
            )
        query = "SELECT has_table_privilege(:table, :right)"
        missing = [
            f"{right} on {table}"
            for right, table in RIGHTS
            if not await _ask(connection, query, table=table, right=right)
        ]
        if missing:
            reason = f"its user has no right to {', '.join(missing)}"
            yield make_finding("database.read-only", reason=reason, step="GRANT these rights to the user")


async def _ask(connection: AsyncConnection, query: str, **values: str) -> object:
    return (await connection.execute(text(query), values)).scalar_one()
