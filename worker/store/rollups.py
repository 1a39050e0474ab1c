"""Adds changes to the roll-ups, in the transaction of the messages that they come from.

Writers do not wait for each other: each row belongs to a slot, and only one transaction at a time has a slot. In
PostgreSQL it is the first slot whose advisory lock is free, until the commit. SQLite has one writer, with slot 0.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.store.contribution import Changes
from worker.store.tables import delivery_rollups, rollup_dimensions, status_rollups

TABLES = (rollup_dimensions, status_rollups, delivery_rollups)

_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]
_LOCKS = 0x61636B72  # "ackr"
_SLOTS = 64
# If all slots are taken, the process id of the backend is a slot of its own.
_SLOT = f"""slot AS MATERIALIZED (
    SELECT coalesce(
        (SELECT n FROM generate_series(0, {_SLOTS - 1}) AS n WHERE pg_try_advisory_xact_lock({_LOCKS}, n) LIMIT 1),
        {_SLOTS} + pg_backend_pid()
    ) AS n
)"""  # noqa: S608 - only numbers


class Rollups:
    """Writes the roll-ups of one kind of database."""

    def __init__(self, dialect: Dialect) -> None:
        self._to_time = status_rollups.c.hour.type.dialect_impl(dialect).bind_processor(dialect)
        self._rows = [_upsert_row(table) for table in TABLES]
        self._arrays = _upsert_arrays() if dialect.name == "postgresql" else None

    async def add(self, connection: AsyncConnection, changes: Changes) -> None:
        """Add the changes. Call it last: the slot is taken until the commit."""
        tables: Sequence[list[tuple[Any, ...]]] = (
            list(changes.dimensions),
            [(self._time(hour), *key, *amounts) for (hour, *key), amounts in changes.statuses.items()],
            [(self._time(hour), *key, number) for (hour, *key), number in changes.deliveries.items()],
        )
        if self._arrays is None:
            for statement, rows in zip(self._rows, tables, strict=True):
                if rows:
                    await connection.exec_driver_sql(statement, rows)
        elif changes.statuses or changes.deliveries:
            arrays: list[Any] = []
            for table, rows in zip(TABLES, tables, strict=True):
                columns = list(zip(*rows, strict=True)) or [()] * len(_columns(table))
                arrays += map(list if table is rollup_dimensions else _write_array, columns)
            await connection.exec_driver_sql(self._arrays, tuple(arrays))

    def _time(self, hour: Any) -> Any:
        return self._to_time(hour) if self._to_time else hour


def _write_array(values: Iterable[Any]) -> str:
    """Return numbers or times as an array of PostgreSQL: the driver looks at each value of an array twice."""
    return f"{{{','.join(map(str, values))}}}"


def _upsert_row(table: Table) -> str:
    """Return the statement that adds one row to a table of SQLite."""
    marks = ", ".join("0" if column.key == "slot" else "?" for column in table.columns)
    return f"{_insert_into(table)} VALUES ({marks}) {_on_conflict(table)}"


def _upsert_arrays() -> str:
    """Return the statement that adds rows to all tables of PostgreSQL. Each column of each table is one array."""
    parts, number = [_SLOT], 0
    for table in TABLES:
        types = [str(column.type.compile(_POSTGRESQL)) for column in _columns(table)]
        cast = "" if table is rollup_dimensions else "::TEXT"
        arrays = ", ".join(f"${place}{cast}::{name}[]" for place, name in enumerate(types, number + 1))
        number += len(types)
        values = ", ".join("slot.n" if column.key == "slot" else f"rows.{column.key}" for column in table.columns)
        names = ", ".join(column.key for column in _columns(table))
        parts.append(
            f"new_{table.name} AS ({_insert_into(table)} SELECT {values} "  # noqa: S608 - only names of columns
            f"FROM slot, unnest({arrays}) AS rows ({names}) {_on_conflict(table)})"
        )
    return f"WITH {', '.join(parts)} SELECT 1"


def _columns(table: Table) -> list[Any]:
    return [column for column in table.columns if column.key != "slot"]


def _insert_into(table: Table) -> str:
    return f"INSERT INTO {table.name} ({', '.join(column.key for column in table.columns)})"


def _on_conflict(table: Table) -> str:
    """Return the clause that adds the amounts of a new row to those of the row with the same key."""
    if table is rollup_dimensions:
        return "ON CONFLICT DO NOTHING"
    keys = ", ".join(column.key for column in table.primary_key.columns)
    amounts = ", ".join(
        f"{column.key} = {table.name}.{column.key} + excluded.{column.key}"
        for column in table.columns
        if not column.primary_key
    )
    return f"ON CONFLICT ({keys}) DO UPDATE SET {amounts}"
