"""The ``store`` handler: keeps every event and every message's state in SQL.

One transaction a batch: lock the batch's messages in one order, read what decides their states, join and project, write
what changed. Under the locks the state is computed as from all events of a message, so concurrent writers, repetitions
and any order end in the same rows.

The work is bounded by the batch: of a message with more than MOST_DECIDING events those that its state does not depend
on (worker.store.projection) are marked in the table, and not read again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any
from urllib.parse import urlencode

import structlog
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from stream.entry import Entry
from stream.redis.client import describe_error
from worker.events.event import StatusEvent
from worker.events.vonage import parse
from worker.handlers.errors import Divide, Unavailable
from worker.store.database import FileReplaced, confirm_files, is_away, open_connection
from worker.store.projection import dedupe, find_deciding, merge_receipts, project
from worker.store.recent_events import RecentEvents
from worker.store.revision import SchemaMismatch, check_tables
from worker.store.statements import PAGE, Statements
from worker.store.tables import status_events

log = structlog.get_logger("store")

MOST_DECIDING = 8
LEAST_DECIDING = 4
"""Fewer are never left, so a message of which fewer events decide has no others."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVENT_COLUMNS = tuple(column.key for column in status_events.columns if column.key not in ("query", "decides"))
_EVENT_VALUES = attrgetter(*("raw" if column == "payload" else column for column in _EVENT_COLUMNS))


@dataclass(slots=True)
class _Message:
    """One message of a batch, while it is written."""

    arrived: dict[str, StatusEvent]
    deciding: Mapping[str, StatusEvent] = field(default_factory=dict)
    """The stored events that decide, and those that came."""
    changed: Mapping[str, StatusEvent] = field(default_factory=dict)
    """What is new, or has a new receipt."""
    others: Mapping[str, StatusEvent] = field(default_factory=dict)
    """Of what arrived, the events that are stored and do not decide."""
    read: Collection[str] = ()
    """Ids of the stored events that decide, if there are LEAST_DECIDING of them."""

    def may_have_others(self) -> bool:
        """Whether there can be stored events that do not decide."""
        return bool(self.read)

    def take_arrived(self) -> bool:
        """Join what arrived into what is known; return whether a deciding event has got another receipt."""
        if not self.deciding:
            self.deciding = self.changed = self.arrived
            return False
        is_moved = False
        changed: dict[str, StatusEvent] = {}
        for event_id, event in self.arrived.items():
            decided = self.deciding.get(event_id)
            before = decided or self.others.get(event_id)
            joined = event if before is None else merge_receipts(before, event)
            if joined != before:
                changed[event_id] = joined
                is_moved |= decided is not None
        self.changed = changed
        self.deciding = {**self.deciding, **changed}
        return is_moved

    def reduce(self) -> None:
        """Leave out what does not decide, if there is much; at least LEAST_DECIDING are left."""
        if len(self.deciding) <= MOST_DECIDING:
            return
        kept = find_deciding(self.deciding.values(), LEAST_DECIDING)
        self.deciding = {event_id: event for event_id, event in self.deciding.items() if event_id in kept}


class Store:
    """Writes events and states. Safe with any number of writers; a batch that was written before changes nothing."""

    def __init__(self, engine: AsyncEngine, timeout_seconds: float = 60.0) -> None:
        self._engine = engine
        self._timeout_seconds = timeout_seconds
        self._sql = Statements(engine.dialect)
        self._recent = RecentEvents()
        self._is_checked = False
        self._mismatch = ""

    def alone(self, _event: StatusEvent) -> bool:
        """Return False: a batch is one transaction."""
        return False

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Store the batch in one transaction. Raises Unavailable or Divide; then nothing of it is stored.

        The first batch also checks that the tables are there, so a handler is opened without its database.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds), open_connection(self._engine) as connection:
                if not self._is_checked:
                    await check_tables(connection)
                    self._is_checked = True
                changed = await self._write(connection, events)
                confirm_files(connection)
        except FileReplaced as exc:
            self._is_checked = False
            self._recent = RecentEvents()
            await self._engine.dispose()  # the next batch opens the file that bears the name by now
            log.error(  # noqa: TRY400 - the text says all
                "store.file_replaced", why=str(exc), what="replay what was stored since, if it is missing"
            )
            raise Unavailable(str(exc)) from exc
        except SchemaMismatch as exc:
            self._report(str(exc))
            raise Unavailable(str(exc)) from exc
        except Exception as exc:
            raise (Unavailable(f"the database is away ({describe_error(exc)})") if is_away(exc) else Divide()) from exc
        self._recent.keep(changed)

    def _report(self, mismatch: str) -> None:
        if mismatch != self._mismatch:
            self._mismatch = mismatch
            log.error("store.waits", why=mismatch)

    async def _write(self, connection: AsyncConnection, events: Sequence[StatusEvent]) -> list[StatusEvent]:
        """Return the events that were new, or had a new receipt."""
        arrived = _by_message(dedupe(events).values())
        batch = {message_uuid: _Message(arrived[message_uuid]) for message_uuid in sorted(arrived)}
        async with connection.begin():
            for statement in self._sql.lock:
                await connection.execute(statement, {"ids": self._sql.ids(batch)})
            await self._read(connection, batch)
            quiet: list[str] = []
            changed: list[StatusEvent] = []
            for message_uuid, message in batch.items():
                if message.take_arrived():
                    await self._read_all(connection, message_uuid, message)
                if message.changed:
                    changed += message.changed.values()
                else:
                    quiet.append(message_uuid)
            missing = set(quiet) - await self._filled(connection, quiet)
            written = {key: message for key, message in batch.items() if message.changed or key in missing}
            await self._put(connection, written)
        return changed

    async def _put(self, connection: AsyncConnection, batch: dict[str, _Message]) -> None:
        usual: list[tuple[Any, ...]] = []
        rows: list[tuple[Any, ...]] = []
        marks: dict[bool, set[str]] = {True: set(), False: set()}
        for message in batch.values():
            message.reduce()
            if message.read:
                decides, changed = message.deciding.keys(), message.changed.keys()
                marks[True] |= decides - message.read - changed
                marks[False] |= message.read - decides - changed
            for event_id, event in message.changed.items():
                if event_id in message.deciding and not event.query:
                    usual.append(_EVENT_VALUES(event))
                else:
                    rows.append((*_EVENT_VALUES(event), event.query or None, event_id in message.deciding))
        states = [project(message.deciding.values()) for message in batch.values()]
        for upsert, written in (
            (self._sql.put_usual_events, usual),
            (self._sql.put_events, rows),
            (self._sql.put_messages, states),
        ):
            if written:
                await connection.exec_driver_sql(upsert.sql, upsert.parameters(written))
        for to, ids in marks.items():
            if ids:
                await connection.execute(self._sql.mark, {"ids": self._sql.ids(sorted(ids)), "to": to})

    async def _read(self, connection: AsyncConnection, batch: dict[str, _Message]) -> None:
        """Read the stored events that decide, and those that arrived again."""
        stored = _by_message(await self._stored(connection, self._sql.deciding_receipts, batch))
        for message_uuid, events in stored.items():
            message = batch[message_uuid]
            message.deciding = events
            message.read = set(events) if len(events) >= LEAST_DECIDING else ()
        again = [
            event_id
            for message in batch.values()
            if message.may_have_others()
            for event_id in message.arrived.keys() - message.deciding.keys()
        ]
        if again:
            stored = _by_message(await self._stored(connection, self._sql.receipts, again))
            for message_uuid, events in stored.items():
                batch[message_uuid].others = events

    async def _read_all(self, connection: AsyncConnection, message_uuid: str, message: _Message) -> None:
        """Look at all events of a message once more: one that decided may decide no longer."""
        seen, after = set(message.deciding), ""
        while message.may_have_others():
            rows = (await connection.execute(self._sql.page, {"message_uuid": message_uuid, "after": after})).all()
            page = {row.event_id: read_event(row) for row in rows if row.event_id not in seen}
            message.deciding = {**message.deciding, **page}
            message.reduce()  # what does not decide among some does not among all
            if len(rows) < PAGE:
                return
            after = rows[-1].event_id

    async def _filled(self, connection: AsyncConnection, ids: list[str]) -> set[str]:
        """Return which of these messages have a row with a state: somebody may have emptied the table."""
        if not ids:
            return set()
        return set((await connection.execute(self._sql.filled, {"ids": self._sql.ids(ids)})).scalars())

    async def _stored(self, connection: AsyncConnection, receipts: Any, ids: Iterable[str]) -> list[StatusEvent]:
        """Return the stored events that these receipts are of; only those that are not remembered are read whole."""
        found: list[StatusEvent] = []
        others: list[str] = []
        for receipt in (await connection.execute(receipts, {"ids": self._sql.ids(ids)})).all():
            event = self._recent.find(tuple(receipt))
            if event is None:
                others.append(receipt.event_id)
            else:
                found.append(event)
        if others:
            rows = await connection.execute(self._sql.events, {"ids": self._sql.ids(others)})
            found += [read_event(row) for row in rows]
        return found


def read_event(row: Row[Any]) -> StatusEvent:
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
            query=urlencode(row.query).encode() if row.query else None,
        ),
        row.entry,
    )


def _by_message(events: Iterable[StatusEvent]) -> dict[str, dict[str, StatusEvent]]:
    found: defaultdict[str, dict[str, StatusEvent]] = defaultdict(dict)
    for event in events:
        found[event.message_uuid][event.event_id] = event
    return found
