"""The page of the database's tables, from their definition."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Index, Table
from sqlalchemy.dialects import postgresql, sqlite

from deploy.docs.markdown import code, page, table
from worker.store import tables

POSTGRESQL, SQLITE = postgresql.dialect(), sqlite.dialect()  # type: ignore[no-untyped-call]
INTRODUCTION = f"""
`ackstream migrate` creates and updates these tables; this version needs revision `{tables.REVISION}`. Times are in
UTC, to the microsecond; SQLite holds them as ISO 8601 text. `from` and `to` need quotes in SQL. A zero byte in a text,
and half of a surrogate pair, become U+FFFD. An optional text of more than 1,024 characters is null.

`store` writes the state of a message, its events and the roll-ups in one transaction. The roll-ups count messages by
hour (of the first status) and dimension. `messages.counted` keeps the contribution of each message that they contain;
a change of the message adds the difference, so the sums equal a count of the messages under any order and repetition.
If you delete messages, the roll-ups keep them. To build the tables again from a replay, delete all rows of all tables
except `ackstream_schema` and `alembic_version` first.

```sql
SELECT channel, sum(messages) AS messages, sum(delivered) AS delivered, sum(units) / 1e9 AS cost, currency
FROM status_rollups JOIN rollup_dimensions ON id = dimension
WHERE hour >= '2026-11-01' AND hour < '2026-12-01' GROUP BY channel, currency;
```
"""  # noqa: S608 - an example for people, with a constant


def render() -> str:
    """Return the page."""
    return page("Database schema", INTRODUCTION, *map(_describe, tables.metadata.sorted_tables))


def _describe(described: Table) -> str:
    columns = table(("column", "PostgreSQL", "SQLite", "null", "meaning"), map(_row, described.columns))
    indexes = map(_describe_index, sorted(described.indexes, key=lambda index: str(index.name)))
    return "\n\n".join(
        filter(None, [f"## {described.name}", str(described.info.get("meaning", "")), columns, *indexes])
    )


def _describe_index(index: Index) -> str:
    parts = ", ".join(code(part.name if isinstance(part, Column) else str(part)) for part in index.expressions)
    where = index.dialect_options["sqlite"]["where"]
    return f"Index `{index.name}` on {parts}{'' if where is None else f' where {code(str(where))}'}."


def _row(column: Column[Any]) -> Sequence[str]:
    types = [code(str(column.type.compile(dialect))) for dialect in (POSTGRESQL, SQLITE)]
    null = "primary key" if column.primary_key else "yes" if column.nullable else "no"
    return code(column.name), *types, null, column.doc or ""
