"""The page of the database's tables, from their definition."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql, sqlite

from deploy.docs.markdown import code, page, table
from worker.store import tables

POSTGRESQL, SQLITE = postgresql.dialect(), sqlite.dialect()  # type: ignore[no-untyped-call]
INTRODUCTION = f"""
`ackstream migrate` creates and updates these tables; this version needs revision `{tables.REVISION}`. Times are in
UTC, to the microsecond; SQLite holds them as ISO 8601 text. `from` and `to` need quotes in SQL. A zero byte in a text,
and half of a surrogate pair, become U+FFFD. An optional text of more than 1,024 characters is null.
"""


def render() -> str:
    """Return the page."""
    return page("Database schema", INTRODUCTION, *map(_describe, tables.metadata.sorted_tables))


def _describe(described: Table) -> str:
    columns = table(("column", "PostgreSQL", "SQLite", "null", "meaning"), map(_row, described.columns))
    indexes = [
        f"Index `{index.name}` on {', '.join(code(column.name) for column in index.columns)}."
        for index in described.indexes
    ]
    return "\n\n".join(
        filter(None, [f"## {described.name}", str(described.info.get("meaning", "")), columns, *indexes])
    )


def _row(column: Column[Any]) -> Sequence[str]:
    types = [code(str(column.type.compile(dialect))) for dialect in (POSTGRESQL, SQLITE)]
    null = "primary key" if column.primary_key else "yes" if column.nullable else "no"
    return code(column.name), *types, null, column.doc or ""
