"""The SQL statements of ``store`` for both databases. All ids of a statement are one parameter."""

from collections.abc import Iterable, Sequence
from datetime import datetime
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
    func,
    null,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import JSON

from worker.store.projection import MessageState
from worker.store.tables import UtcTime, messages, status_events

RECEIPT = ("entry", "account", "account_verified", "application")  # time of receipt and query depend on the entry
_MICROSECONDS_LENGTH = len("2026-11-30T14:00:00.000001+00:00")  # orjson leaves out microseconds of 0
PAGE = 5000
"""Events of one message in one read."""

# A missing row cannot be locked, so empty rows are inserted first. All writers lock in code point order.
_INSERT_MISSING = text(
    "INSERT INTO messages (message_uuid, status, statuses, stale) "
    "SELECT id, '', '{}', false FROM unnest(CAST(:ids AS text[])) AS id ON CONFLICT (message_uuid) DO NOTHING"
)
_LOCK = text(
    "SELECT message_uuid, status <> '', counted FROM messages WHERE message_uuid = ANY(CAST(:ids AS text[])) "
    'ORDER BY message_uuid COLLATE "C" FOR UPDATE'
)


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


class Statements:
    """All statements of ``store``. ``ids`` makes the parameter of those that take ids."""

    def __init__(self, dialect: Dialect) -> None:
        self._is_postgresql = dialect.name == "postgresql"
        receipts = select(status_events.c.event_id, *(status_events.c[column] for column in RECEIPT))
        self.insert_missing = _INSERT_MISSING if self._is_postgresql else None
        counted = select(messages.c.message_uuid, messages.c.status != "", messages.c.counted)
        self.lock = (  # on SQLite the transaction has the write lock
            _LOCK if self._is_postgresql else counted.where(self._among(messages.c.message_uuid))
        )
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

    def ids(self, ids: Iterable[str]) -> list[str] | str:
        """Return the ids as the parameter ``ids`` of the statements."""
        return list(ids) if self._is_postgresql else orjson.dumps(list(ids)).decode()

    def _among(self, column: Column[str]) -> ColumnElement[bool]:
        if self._is_postgresql:
            return column == any_(cast(bindparam("ids"), ARRAY(Text)))
        return column.in_(select(func.json_each(bindparam("ids")).table_valued("value").c.value))
