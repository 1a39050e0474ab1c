"""Adds changes to the roll-ups, in the transaction of the messages that they come from.

Writers do not wait for each other: each row belongs to a slot, and only one transaction at a time has a slot. In
PostgreSQL it is the first slot whose advisory lock is free, until the commit. SQLite has one writer, with slot 0.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Dialect, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.store.contribution import Changes
from worker.store.statements import ArrayRows, InsertRows
from worker.store.tables import delivery_rollups, rollup_dimensions, status_rollups

TABLES = (rollup_dimensions, status_rollups, delivery_rollups)

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

    def __init__(self, dialect: Dialect, puts: Sequence[InsertRows] = ()) -> None:
        """Make the statements. That of PostgreSQL contains ``puts`` too, because each statement takes a round trip."""
        self._puts = puts
        to_time = status_rollups.c.hour.type.dialect_impl(dialect).bind_processor(dialect)
        self._time = lru_cache(maxsize=256)(to_time) if to_time else lambda hour: hour
        self._arrays = _number_arrays(puts[-1].next if puts else 1) if dialect.name == "postgresql" else []
        self._statements = [_upsert_arrays(puts, self._arrays)] if self._arrays else list(map(_upsert_row, TABLES))

    async def add(
        self, connection: AsyncConnection, changes: Changes, put: Sequence[Sequence[tuple[Any, ...]]] = ()
    ) -> None:
        """Add the changes, and put the rows of each of ``puts``. Call it last: the slot is taken until the commit."""
        tables: Sequence[list[tuple[Any, ...]]] = (
            list(changes.dimensions),
            [(self._time(hour), *key, *amounts) for (hour, *key), amounts in changes.statuses.items()],
            [(self._time(hour), *key, number) for (hour, *key), number in changes.deliveries.items()],
        )
        if not self._arrays:
            for statement, rows in zip(self._statements, tables, strict=True):
                if rows:
                    await connection.exec_driver_sql(statement, rows)
        elif changes.statuses or changes.deliveries or any(put):
            parameters = chain(
                *map(InsertRows.parameters, self._puts, put), *map(ArrayRows.parameters, self._arrays, tables)
            )
            await connection.exec_driver_sql(self._statements[0], tuple(parameters))


def _number_arrays(first: int) -> Sequence[ArrayRows]:
    """Return the parameters of the statement of PostgreSQL, for each table."""
    arrays = []
    for table in TABLES:
        arrays.append(ArrayRows(_columns(table), first))
        first += len(_columns(table))
    return arrays


def _upsert_arrays(puts: Sequence[InsertRows], tables: Sequence[ArrayRows]) -> str:
    """Return the statement of PostgreSQL that puts rows, and adds rows to all tables of roll-ups."""
    parts = [*(f"put_{place} AS ({put.sql})" for place, put in enumerate(puts)), _SLOT]
    for table, arrays in zip(TABLES, tables, strict=True):
        rows = f"SELECT {_add_slot(table, arrays.values, 'slot.n')} FROM slot, {arrays}"  # noqa: S608 - only names
        parts.append(f"new_{table.name} AS ({_upsert(table, rows)})")
    return f"WITH {', '.join(parts)} SELECT 1"


def _upsert_row(table: Table) -> str:
    """Return the statement that adds one row to a table of SQLite."""
    return _upsert(table, f"VALUES ({_add_slot(table, '?' * len(_columns(table)), '0')})")


def _upsert(table: Table, rows: str) -> str:
    names = _add_slot(table, [column.key for column in _columns(table)], "slot")
    return f"INSERT INTO {table.name} ({names}) {rows} {_on_conflict(table)}"


def _columns(table: Table) -> list[Any]:
    return [column for column in table.columns if column.key != "slot"]


def _add_slot(table: Table, values: Iterable[str], slot: str) -> str:
    """Return the list of the values of a row, with the slot as the last one if the table has it."""
    return ", ".join([*values, slot] if "slot" in table.c else values)


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
