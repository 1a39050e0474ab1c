"""The SQL statements of ``store`` for both databases. All ids of a statement are one parameter."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Dialect,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    collate,
    func,
    null,
    select,
    true,
    type_coerce,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import JSON

from worker.store.projection import MessageState
from worker.store.tables import UtcTime, messages, status_events

RECEIPT = ("entry", "account", "account_verified", "application")  # time of receipt and query depend on the entry
_STATUSES = list(messages.columns).index(messages.c.statuses)
_EMPTY = {
    "message_uuid": "ids.id",
    "status": "coalesce(states.status, '')",
    "statuses": "coalesce(states.statuses, '{}')::JSON",
}
"""The values of columns that an empty row must have."""
_MICROSECONDS_LENGTH = len("2026-11-30T14:00:00.000001+00:00")  # orjson leaves out microseconds of 0
PAGE = 5000
"""Events of one message in one read."""

INDEXED = ("to", "client_ref", "error_code", "first_at", "stale")
"""The columns of messages that the indexes contain, in the order of the table."""


class Upsert:
    """Inserts or replaces rows of a table. The rows have no values for ``defaults``, which the database fills in.

    SQLAlchemy takes rows as mappings and converts value by value. That took about a fifth of the processor time of an
    event, so rows are tuples here, and only the columns that need it are converted, each as a whole.
    """

    def __init__(self, table: Table, dialect: Dialect, **defaults: ColumnElement[Any]) -> None:
        statement = (postgresql if dialect.name == "postgresql" else sqlite).insert(table)
        statement = statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={
                column: defaults.get(column.key, statement.excluded[column.key])
                for column in table.columns
                if not column.primary_key
            },
        )
        columns = [column for column in table.columns if column.key not in defaults]
        self.sql = str(statement.compile(dialect=dialect, column_keys=[column.key for column in columns]))
        self._times = [
            place
            for place, column in enumerate(columns)
            if isinstance(column.type, UtcTime) and dialect.name == "sqlite"
        ]
        self._documents = [place for place, column in enumerate(columns) if isinstance(column.type, JSON)]

    def parameters(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the parameters of the driver for rows with values in the order of the columns."""
        columns: list[Iterable[Any]] = list(zip(*rows, strict=True))
        if not columns:
            return []
        for place in self._times:
            columns[place] = _encode_times(columns[place])
        for place in self._documents:
            columns[place] = [value and orjson.dumps(value).decode() for value in columns[place]]
        return list(zip(*columns, strict=True))


def _encode_times(times: Iterable[datetime | None]) -> list[str | None]:
    """Return the times in UTC as UtcTime encodes them for SQLite. orjson takes a third of the time of isoformat."""
    texts: list[str | None] = orjson.loads(orjson.dumps(list(times)))
    return [
        text if text is None or len(text) == _MICROSECONDS_LENGTH else f"{text[:19]}.000000{text[19:]}"
        for text in texts
    ]


class UpdateMessages:
    """Updates rows of messages whose indexed values stay equal: SQLite writes each index of a column that is set."""

    def __init__(self, dialect: Dialect) -> None:
        places = [place for place, key in enumerate(messages.c.keys()) if key not in {*INDEXED, "message_uuid"}]
        names = [messages.columns[place].name for place in places]
        marks = [f"${number}" if dialect.name == "postgresql" else "?" for number in range(1, len(names) + 2)]
        values = ", ".join(f'"{name}" = {mark}' for name, mark in zip(names, marks, strict=False))
        self.sql = f"UPDATE messages SET {values} WHERE message_uuid = {marks[-1]}"  # noqa: S608 - names of columns
        self._take = itemgetter(*places, 0)

    def parameters(self, upserts: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the parameters of the driver for those of an upsert of the same rows."""
        return list(map(self._take, upserts))


class InsertMissing:
    """Inserts the missing rows of messages into PostgreSQL, in the order of their ids, and returns the ids of these.

    A row is empty, or has a state. The driver looks at each value of an array twice, so columns without values are left
    out.
    """

    def __init__(self, dialect: Dialect) -> None:
        # Documents are texts in an array: the driver takes no arrays of JSON.
        self._columns = [
            (column.name, "TEXT" if isinstance(column.type, JSON) else str(column.type.compile(dialect)))
            for column in messages.columns
            if column.key != "stale"
        ]

    def arguments(self, ids: Iterable[str], rows: Sequence[tuple[Any, ...]]) -> tuple[str, tuple[list[Any], ...]]:
        """Return the statement for all ids, and its parameters. Rows have values in the order of the columns."""
        columns = list(zip(*rows, strict=True))[: len(self._columns)]
        used = tuple(place for place, values in enumerate(columns) if values.count(None) < len(values))
        arrays = [list(columns[place]) for place in used]
        if rows:
            arrays[_STATUSES] = [orjson.dumps(statuses).decode() for statuses in columns[_STATUSES]]
        return self._write(used or (0, 1, 2, _STATUSES)), (list(ids), *(arrays or ([], [], [], [])))

    @lru_cache  # noqa: B019 - there is one object for each engine
    def _write(self, used: Sequence[int]) -> str:
        columns = [self._columns[place] for place in used]
        names = ", ".join(f'"{name}"' for name, _ in columns)
        arrays = ", ".join(f"${place}::{kind}[]" for place, (_, kind) in enumerate(columns, 2))
        values = ", ".join(_EMPTY.get(name, f'states."{name}"') for name, _ in columns)
        return (
            f"INSERT INTO messages ({names}, stale) SELECT {values}, false "  # noqa: S608 - names of columns
            f"FROM unnest($1::TEXT[]) WITH ORDINALITY AS ids (id, place) "
            f"LEFT JOIN unnest({arrays}) AS states ({names}) ON states.message_uuid = ids.id ORDER BY ids.place "
            "ON CONFLICT (message_uuid) DO NOTHING RETURNING message_uuid"
        )


class Statements:
    """All statements of ``store``. ``ids`` makes the parameter of those that take ids."""

    def __init__(self, dialect: Dialect) -> None:
        self._is_postgresql = dialect.name == "postgresql"
        receipts = select(status_events.c.event_id, *(status_events.c[column] for column in RECEIPT))
        self.insert_missing = InsertMissing(dialect) if self._is_postgresql else None
        columns = (messages.c.message_uuid, messages.c.status != "", messages.c.counted)
        indexed = [messages.c[name] for name in INDEXED]
        self.lock = (
            select(*columns, *(column if self._is_postgresql else type_coerce(column, Text) for column in indexed))
            .where(self._among(messages.c.message_uuid))
            .order_by(collate(messages.c.message_uuid, "C" if self._is_postgresql else "BINARY"))
        )
        """All writers lock, and insert, in code point order. On SQLite the transaction has the write lock."""
        if self._is_postgresql:
            self.lock = self.lock.with_for_update()
        self.stale = select(*(messages.c[name] for name in (*MessageState._fields, "counted"))).where(
            self._among(messages.c.message_uuid), messages.c.stale == true()
        )
        self.deciding_receipts = receipts.where(
            self._among(status_events.c.message_uuid), status_events.c.decides.is_(True)
        )
        self.receipts = receipts.where(self._among(status_events.c.event_id))
        self.events = select(status_events).where(self._among(status_events.c.event_id))
        self.page = (
            select(status_events)
            .where(status_events.c.message_uuid == bindparam("message_uuid"))
            .where(status_events.c.event_id > bindparam("after"))
            .order_by(status_events.c.event_id)
            .limit(PAGE)
        )
        self.mark = update(status_events).where(self._among(status_events.c.event_id)).values(decides=bindparam("to"))
        self.put_events = Upsert(status_events, dialect)
        self.put_usual_events = Upsert(status_events, dialect, query=null(), decides=true())
        self.put_messages = Upsert(messages, dialect)
        self.update_messages = UpdateMessages(dialect)

    def ids(self, ids: Iterable[str]) -> list[str] | str:
        """Return the ids as the parameter ``ids`` of the statements."""
        return list(ids) if self._is_postgresql else orjson.dumps(list(ids)).decode()

    def _among(self, column: Column[str]) -> ColumnElement[bool]:
        if self._is_postgresql:
            return column == any_(cast(bindparam("ids"), ARRAY(Text)))
        return column.in_(select(func.json_each(bindparam("ids")).table_valued("value").c.value))
