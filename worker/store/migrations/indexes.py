"""Makes the indexes of the tables that a database does not have, while workers write.

PostgreSQL builds an index CONCURRENTLY, which no transaction may contain. If that is interrupted, an invalid index
stays; it is dropped and made again. SQLite builds an index in one transaction: writers wait for a second or two for a
million rows.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Index, exists, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateIndex

from worker.store.database import open_connection
from worker.store.tables import metadata, status_events

STALE = "ix_messages_stale"

_LONGEST_SECONDS = 86_400.0
_VALID = {
    "postgresql": text(
        "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
        "WHERE pg_table_is_visible(indrelid)"
    ),
    "sqlite": text("SELECT name, 1 FROM sqlite_master WHERE type = 'index'"),
}


async def make_indexes(engine: AsyncEngine, report: Callable[[str], None]) -> None:
    """Make the missing indexes. Another ``migrate`` must not run. Raises DatabaseAway, or an error of the database."""
    missing = await find_missing_indexes(engine)
    async with open_connection(engine) as connection, connection.begin():
        has_rows = (await connection.execute(select(exists().select_from(status_events)))).scalar()
    for index, is_invalid in missing.items():
        if has_rows:
            report(f"making the index {index.name}")
        await _make(engine, index, is_invalid=is_invalid)


async def find_missing_indexes(engine: AsyncEngine) -> dict[Index, bool]:
    """Return the indexes that the tables lack, and whether an invalid one has the name."""
    indexes = await read_indexes(engine)
    wanted = [
        index for table in metadata.sorted_tables for index in sorted(table.indexes, key=lambda index: str(index.name))
    ]
    return {index: str(index.name) in indexes for index in wanted if not indexes.get(str(index.name))}


async def read_indexes(engine: AsyncEngine) -> dict[str, bool]:
    """Return the names of all indexes, and whether each is valid."""
    async with open_connection(engine) as connection, connection.begin():
        rows = await connection.execute(_VALID[engine.dialect.name])
        return {name: bool(is_valid) for name, is_valid in rows}


async def _make(engine: AsyncEngine, index: Index, *, is_invalid: bool) -> None:
    if engine.dialect.name == "sqlite":
        async with open_connection(engine) as connection, connection.begin():
            await connection.execute(CreateIndex(index, if_not_exists=True))
        return
    create = str(CreateIndex(index).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    async with open_connection(engine) as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        if is_invalid:
            await driver.execute(f'DROP INDEX CONCURRENTLY "{index.name}"', timeout=_LONGEST_SECONDS)
        await driver.execute(create.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY"), timeout=_LONGEST_SECONDS)
