"""The ``store`` handler: keeps every event and every message's state in SQL.

One transaction a batch: lock the batch's messages in one order, read what is stored of them, join and project, write
what changed. Under the locks the state is computed from all events of a message, so concurrent writers, repetitions
and any order end in the same rows.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from sqlalchemy import Row, Table, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from stream.entry import Entry
from worker.events.event import StatusEvent
from worker.events.vonage import parse
from worker.handlers.errors import Divide, Unavailable
from worker.store.database import is_away
from worker.store.projection import MessageState, distinct, join, project
from worker.store.tables import messages, status_events

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVENT_COLUMNS = tuple(column.key for column in status_events.columns)
_EVENT_VALUES = attrgetter(*("raw" if column == "payload" else column for column in _EVENT_COLUMNS))
_MESSAGE_COLUMNS = tuple(column.key for column in messages.columns)
_MESSAGE_VALUES = attrgetter(*_MESSAGE_COLUMNS)

_RECEIPT = ("entry", "account", "account_verified", "application")  # an entry has one time of receipt
_RECEIPT_VALUES = attrgetter(*_RECEIPT)
_RECEIPTS = select(status_events.c.event_id, *(status_events.c[column] for column in _RECEIPT))

REMEMBERED = 16_384
REMEMBERED_BYTES = 4096

# Rows that are not there cannot be locked: put empty ones in place first. Both in code point order, as every writer.
_INSERT_MISSING = text(
    "INSERT INTO messages (message_uuid, status, statuses) "
    "SELECT id, '', '{}' FROM unnest(CAST(:ids AS text[])) AS id ON CONFLICT (message_uuid) DO NOTHING"
)
_LOCK = text(
    "SELECT message_uuid FROM messages WHERE message_uuid = ANY(CAST(:ids AS text[])) "
    'ORDER BY message_uuid COLLATE "C" FOR UPDATE'
)


class RecentEvents:
    """The events that were stored last, so that a message's next status need not parse them again.

    An event's content is a function of its id; its receipt is not (another writer may have stored an earlier one), so
    an event is found only if it has the receipt that stands in the database.
    """

    def __init__(self) -> None:
        self._events: OrderedDict[str, StatusEvent] = OrderedDict()

    def keep(self, events: Iterable[StatusEvent]) -> None:
        """Remember these, and forget the oldest beyond REMEMBERED."""
        self._events.update((event.event_id, event) for event in events if len(event.raw) <= REMEMBERED_BYTES)
        while len(self._events) > REMEMBERED:
            self._events.popitem(last=False)

    def find(self, event_id: str, receipt: list[Any]) -> StatusEvent | None:
        """Return the event if it is remembered with this receipt (the columns of _RECEIPT)."""
        event = self._events.get(event_id)
        return event if event is not None and _RECEIPT_VALUES(event) == tuple(receipt) else None


class Store:
    """Writes events and states. Safe with any number of writers; a batch that was written before changes nothing."""

    def __init__(self, engine: AsyncEngine, timeout_seconds: float = 60.0) -> None:
        self._engine = engine
        self._timeout_seconds = timeout_seconds
        self._dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
        self._put_events = self._upsert(status_events)
        self._put_messages = self._upsert(messages)
        self._recent = RecentEvents()

    def alone(self, _event: StatusEvent) -> bool:
        """Return False: a batch is one transaction."""
        return False

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Store the batch in one transaction. Raises Unavailable or Divide; then nothing of it is stored."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._write(events)
        except Exception as exc:
            raise (Unavailable() if is_away(exc) else Divide()) from exc

    async def _write(self, events: Sequence[StatusEvent]) -> None:
        arrived = _by_message(distinct(events).values())
        ids = sorted(arrived)
        changed: list[StatusEvent] = []
        states: list[MessageState] = []
        async with self._engine.begin() as connection:
            await self._lock(connection, ids)
            stored = _by_message(await self._stored(connection, ids))
            for message_uuid in ids:
                known = stored.get(message_uuid, {})
                if new := list(_news(known, arrived[message_uuid].values())):
                    changed += new
                    states.append(project(known.values()))
            if changed:
                await connection.execute(self._put_events, [_event_row(event) for event in changed])
                await connection.execute(self._put_messages, [_message_row(state) for state in states])
        self._recent.keep(changed)

    async def _lock(self, connection: AsyncConnection, ids: list[str]) -> None:
        if self._dialect is postgresql:  # SQLite's write lock is the transaction's already
            await connection.execute(_INSERT_MISSING, {"ids": ids})
            await connection.execute(_LOCK, {"ids": ids})

    async def _stored(self, connection: AsyncConnection, ids: list[str]) -> list[StatusEvent]:
        """Return all stored events of these messages; only those that are not remembered are read whole."""
        receipts = await connection.execute(_RECEIPTS.where(status_events.c.message_uuid.in_(ids)))
        found: list[StatusEvent] = []
        others: list[str] = []
        for event_id, *receipt in receipts:
            event = self._recent.find(event_id, receipt)
            if event is None:
                others.append(event_id)
            else:
                found.append(event)
        if others:
            rows = await connection.execute(select(status_events).where(status_events.c.event_id.in_(others)))
            found += [stored_event(row) for row in rows]
        return found

    def _upsert(self, table: Table) -> Any:
        statement = self._dialect.insert(table)
        key = list(table.primary_key.columns)
        others = [column for column in table.columns if not column.primary_key]
        return statement.on_conflict_do_update(
            index_elements=key,
            set_={column: statement.excluded[column.key] for column in others},
        )


def stored_event(row: Row[Any]) -> StatusEvent:
    """Read an event back from its row: the payload says everything that the receipt does not."""
    return parse(
        Entry(
            payload=row.payload,
            content_type="",
            received_ms=(row.received_at - _EPOCH) // timedelta(milliseconds=1),
            receipt="",
            verified="jwt" if row.account_verified else "none",
            account=row.account if row.account_verified else None,
            application=row.application,
        ),
        row.entry,
    )


def _news(known: dict[str, StatusEvent], arrived: Iterable[StatusEvent]) -> Iterator[StatusEvent]:
    """Join what arrived into the message's known events, and yield those that this has added or changed."""
    for event in arrived:
        before = known.get(event.event_id)
        joined = event if before is None else join(before, event)
        if joined != before:
            known[event.event_id] = joined
            yield joined


def _by_message(events: Iterable[StatusEvent]) -> dict[str, dict[str, StatusEvent]]:
    found: defaultdict[str, dict[str, StatusEvent]] = defaultdict(dict)
    for event in events:
        found[event.message_uuid][event.event_id] = event
    return found


def _event_row(event: StatusEvent) -> dict[str, Any]:
    return dict(zip(_EVENT_COLUMNS, _EVENT_VALUES(event), strict=True))


def _message_row(state: MessageState) -> dict[str, Any]:
    return dict(zip(_MESSAGE_COLUMNS, _MESSAGE_VALUES(state), strict=True))
