"""The SQL statements of ``store`` for both databases. All ids of a statement are one parameter."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Dialect,
    LargeBinary,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    collate,
    func,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import JSON

from worker.store.projection import INDEXED, MessageState
from worker.store.tables import UtcTime, messages, status_events

RECEIPT = ("received_at", "entry", "account", "account_verified", "application")  # the query depends on the entry
LOCKED = (*MessageState._fields, "counted", "stale")
_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]
_CONTROL_ESCAPE = re.compile(r"\\[bfnrtu]")  # or an escaped backslash before such a letter
_MICROSECONDS_LENGTH = len("2026-11-30T14:00:00.000001+00:00")  # orjson leaves out microseconds of 0
PAGE = 5000
"""Events of one message in one read."""


class InsertRows:
    """Inserts rows into a table. A row that has the key of another replaces it, unless ``on_conflict`` differs.

    SQLAlchemy takes rows as mappings and converts value by value. That took about a fifth of the processor time of an
    event, so rows are tuples here, and only the columns that need it are converted, each as a whole. PostgreSQL takes
    all rows in one statement: one for each row took a third more time of the server.
    """

    def __init__(
        self,
        table: Table,
        dialect: Dialect,
        *,
        defaults: Collection[str] = (),
        on_conflict: str | None = None,
        first: int = 1,
    ) -> None:
        """Make the statement. Rows have no values for the columns in ``defaults``, which the table fills in.

        In PostgreSQL its parameters have the numbers from ``first`` until before ``next``.
        """
        self._columns = [column for column in table.columns if column.key not in defaults]
        self.next = first + len(self._columns)
        self._arrays = ArrayRows(self._columns, first) if dialect.name == "postgresql" else None
        rows = f"VALUES ({', '.join('?' * len(self._columns))})"
        if self._arrays:
            rows = f"SELECT {', '.join(self._arrays.values)} FROM {self._arrays}"  # noqa: S608 - only names
        names = ", ".join(f'"{column.name}"' for column in self._columns)
        if on_conflict is None:
            keys = ", ".join(column.name for column in table.primary_key)
            values = ", ".join(f'"{c.name}" = excluded."{c.name}"' for c in table.columns if not c.primary_key)
            on_conflict = f"({keys}) DO UPDATE SET {values}"
        self.sql = f"INSERT INTO {table.name} ({names}) {rows} ON CONFLICT {on_conflict}"

    def parameters(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
        """Return the parameters of the driver for rows with values in the order of the columns."""
        if self._arrays:
            return tuple(self._arrays.parameters(rows))
        return list(_encode_rows(self._columns, rows))


class ArrayRows:
    """Rows of PostgreSQL as parameters of one statement: an array for each column.

    ``str`` gives the rows for a FROM clause, ``values`` the values of a row. Arrays are texts, because the driver looks
    at each value of an array twice; payloads stay bytes. The parameters have numbers, from ``first``.
    """

    def __init__(self, columns: Sequence[Column[Any]], first: int = 1) -> None:
        self._columns = columns
        names = [f'"{column.name}"' for column in columns]
        arrays = ", ".join(f"${place}::{_array_type(column)}" for place, column in enumerate(columns, first))
        self._text = f"unnest({arrays}) AS rows ({', '.join(names)})"
        self.values = [
            f"rows.{name}::JSON" if isinstance(column.type, JSON) else f"rows.{name}"
            for name, column in zip(names, columns, strict=True)
        ]

    def __str__(self) -> str:
        return self._text

    def parameters(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[str | list[bytes]]:
        """Yield the parameters of the driver for rows with values in the order of the columns."""
        columns = zip(*rows, strict=True) if rows else [()] * len(self._columns)
        for column, values in zip(self._columns, columns, strict=True):
            if isinstance(column.type, LargeBinary):
                yield list(values)
            else:
                yield write_array(_encode_documents(values) if isinstance(column.type, JSON) else values)


def _array_type(column: Column[Any]) -> str:
    """Return the type of the parameter for the values of a column. PostgreSQL reads an array from a text."""
    if isinstance(column.type, LargeBinary):
        return "BYTEA[]"
    return f"TEXT::{'TEXT' if isinstance(column.type, JSON) else column.type.compile(_POSTGRESQL)}[]"


def write_array(values: Iterable[Any]) -> str:
    """Return texts, numbers, times or truth values as an array of PostgreSQL.

    Its quotes and escapes are those of JSON, except for control characters, which have no escape.
    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    """
    array = list(values)
    document = orjson.dumps(array).decode()
    if _CONTROL_ESCAPE.search(document):
        document = f"[{','.join('null' if text is None else _quote(text) for text in array)}]"
    return f"{{{document[1:-1]}}}"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _encode_rows(columns: Iterable[Column[Any]], rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Return the rows with their values as SQLite takes them."""
    encoded = (
        _encode_documents(values)
        if isinstance(column.type, JSON)
        else _encode_times(values)
        if isinstance(column.type, UtcTime)
        else values
        for column, values in zip(columns, zip(*rows, strict=True), strict=True)
    )
    return zip(*encoded, strict=True)


def _encode_documents(documents: Iterable[Any]) -> list[str | None]:
    return [None if document is None else orjson.dumps(document).decode() for document in documents]


def _encode_times(times: Iterable[datetime | None]) -> list[str | None]:
    """Return the times in UTC as UtcTime encodes them for SQLite. orjson takes a third of the time of isoformat."""
    texts: list[str | None] = orjson.loads(orjson.dumps(list(times)))
    return [
        text if text is None or len(text) == _MICROSECONDS_LENGTH else f"{text[:19]}.000000{text[19:]}"
        for text in texts
    ]


class UpdateMessages:
    """Updates rows of messages in SQLite, if their indexed values stay equal: an index of a set column is written."""

    def __init__(self) -> None:
        indexed = {*INDEXED, "first_at", "stale", "message_uuid"}
        places = [place for place, key in enumerate(messages.c.keys()) if key not in indexed]
        values = ", ".join(f'"{messages.columns[place].name}" = ?' for place in places)
        self.sql = f"UPDATE messages SET {values} WHERE message_uuid = ?"  # noqa: S608 - names of columns
        self._take = itemgetter(*places, 0)

    def parameters(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
        """Return the parameters of the driver for rows with values in the order of the columns."""
        return list(map(self._take, _encode_rows(messages.columns, rows)))


class InsertAndLock:
    """Inserts missing rows of messages in PostgreSQL, and locks and reads the others, in one statement.

    ON CONFLICT DO UPDATE locks a row also if WHERE excludes it, so rows are inserted and locked in one order. Of an
    inserted row the result has the id, and as ``stale`` whether events of the message are stored. A row that another
    transaction inserted after the statement began is locked and not returned: only the next statement can read it.
    https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT
    """

    def __init__(self, dialect: Dialect) -> None:
        lock = "(message_uuid) DO UPDATE SET stale = excluded.stale WHERE false RETURNING message_uuid"
        self._insert = InsertRows(messages, dialect, on_conflict=lock)
        names = [f'"{messages.c[name].name}"' for name in LOCKED]
        self.sql = f"""WITH inserted AS ({self._insert.sql}), stored AS (
            SELECT {", ".join(names)} FROM messages
            WHERE message_uuid = ANY(${self._insert.next}::TEXT[]) AND (SELECT count(*) FROM inserted) >= 0
            FOR NO KEY UPDATE
        ) SELECT * FROM stored UNION ALL SELECT message_uuid{", NULL" * (len(names) - 2)}, (
            SELECT true FROM status_events WHERE status_events.message_uuid = inserted.message_uuid LIMIT 1
        ) FROM inserted"""  # noqa: S608 - only names

    def parameters(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
        """Return the parameters of the driver for rows with values in the order of the columns, in code point order."""
        return (*self._insert.parameters(rows), [row[0] for row in rows])


def read_state(row: Sequence[Any]) -> MessageState | None:
    """Return the state in a row of LOCKED; None if the row is empty. The driver does not parse ``statuses``."""
    message_uuid, status, status_at, statuses, *values, _counted, _stale = row
    if not status:
        return None
    statuses = orjson.loads(statuses) if isinstance(statuses, str) else statuses
    times = {name: datetime.fromisoformat(at) for name, at in statuses.items()}
    return MessageState(message_uuid, status, status_at, times, *values)


class Statements:
    """All statements of ``store``. ``ids`` makes the parameter of those that take ids."""

    def __init__(self, dialect: Dialect) -> None:
        self._is_postgresql = dialect.name == "postgresql"
        receipts = select(*(status_events.c[column] for column in ("event_id", "message_uuid", *RECEIPT)))
        self.insert_and_lock = InsertAndLock(dialect) if self._is_postgresql else None
        self.lock = (
            select(*(messages.c[name] for name in LOCKED))
            .where(self._among(messages.c.message_uuid))
            .order_by(collate(messages.c.message_uuid, "C" if self._is_postgresql else "BINARY"))
        )
        """All writers lock, and insert, in code point order. On SQLite the transaction has the write lock."""
        if self._is_postgresql:
            self.lock = self.lock.with_for_update()
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
        self.put_events = InsertRows(status_events, dialect)
        self.put_usual_events = InsertRows(status_events, dialect, defaults=("query", "decides"))
        self.put_messages = InsertRows(messages, dialect, first=self.put_usual_events.next)
        self.put_last = (self.put_usual_events, self.put_messages) if self._is_postgresql else ()
        """Sent with the roll-ups, in one statement."""
        self.update_messages = UpdateMessages()

    def ids(self, ids: Iterable[str]) -> list[str] | str:
        """Return the ids as the parameter ``ids`` of the statements."""
        return list(ids) if self._is_postgresql else orjson.dumps(list(ids)).decode()

    def _among(self, column: Column[str]) -> ColumnElement[bool]:
        if self._is_postgresql:
            return column == any_(cast(bindparam("ids"), ARRAY(Text)))
        return column.in_(select(func.json_each(bindparam("ids")).table_valued("value").c.value))
