"""The ``store`` handler: writes every event and the state of every message to SQL.

Each batch is one transaction: lock the messages of the batch in one order, read their states, extend them by the events
of the batch, write the changes, and add the changed states to the roll-ups. If a state does not have enough facts for
that, the events that decide it are read and projected. Under the locks the state equals the one computed from all
events of a message, so concurrent writers, repetitions and any order give the same rows and sums.

The size of the batch limits the work. If a message has more than MOST_DECIDING events, those that its state does not
depend on (worker.store.projection) are marked in the table and not read again.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any

import structlog
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.database_fault import describe_database_fault, is_partly_damaged
from worker.events.event import StatusEvent
from worker.events.number_hash import NumberHash
from worker.events.stored import parse_again
from worker.handlers.errors import Divide, Refused, Unavailable
from worker.store.batch_message import LEAST_DECIDING, BatchMessage
from worker.store.contribution import Contribution, ContributionTally, find_contribution
from worker.store.database import FileReplaced, confirm_files, is_away, open_connection
from worker.store.projection import MessageState, dedupe, project
from worker.store.revision import SchemaMismatch, check_tables
from worker.store.rollups import Rollups
from worker.store.statements import PAGE, Statements, read_state
from worker.store.tables import messages, status_events

log = structlog.get_logger("store")

_EVENT_COLUMNS = tuple(column.key for column in status_events.columns if column.key not in ("query", "decides"))
_NO_STATE = tuple({"status": "", "statuses": {}, "stale": False}.get(key) for key in messages.columns.keys()[1:])
"""The values of an empty row of messages, without the id."""
_EVENT_VALUES = attrgetter(*("raw" if column == "payload" else column for column in _EVENT_COLUMNS))


class Store:
    """Writes events and states. Safe with any number of writers; writing a batch again changes nothing."""

    def __init__(
        self, engine: AsyncEngine, timeout_seconds: float = 60.0, number_hash: NumberHash | None = None
    ) -> None:
        """Make the handler. With ``number_hash`` the rows have hashes instead of phone numbers."""
        self._engine = engine
        self._number_hash = number_hash
        self._reading = engine.execution_options(read_only=True)
        self._timeout_seconds = timeout_seconds
        self._sql = Statements(engine.dialect)
        self._rollups = Rollups(engine.dialect, self._sql.put_last)
        self._is_checked = False
        self._mismatch = ""

    def alone(self, _event: StatusEvent) -> bool:
        """Return False: a batch is one transaction."""
        return False

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Store the batch in one transaction. Raises Unavailable or Divide if the batch was not stored.

        The first batch also checks the tables, so the handler opens without its database.
        """
        try:
            if self._number_hash is not None:
                events = list(map(self._number_hash.hide, events))
            async with self._open(self._engine) as connection:
                if not self._is_checked:
                    await check_tables(connection)
                    self._is_checked = True
                await self._write(connection, events)
        except Unavailable:
            raise
        except Exception as exc:
            raise Divide from exc

    async def check(self) -> None:
        """Check that the database answers and has the tables, without a lock. Raises Unavailable or another error."""
        async with self._open(self._reading) as connection:
            await check_tables(connection)

    @asynccontextmanager
    async def _open(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """Yield a connection. Raises Unavailable if the database is at fault, Refused if only a part is damaged."""
        try:
            async with asyncio.timeout(self._timeout_seconds), open_connection(engine) as connection:
                yield connection
                confirm_files(connection)
        except FileReplaced as exc:
            self._is_checked = False
            await self._engine.dispose()  # the next batch opens the file that has the name now
            log.error(  # noqa: TRY400 - a traceback adds nothing
                "store.file_replaced", why=str(exc), what="replay the entries since then if their events are missing"
            )
            raise Unavailable(str(exc)) from exc
        except SchemaMismatch as exc:
            self._report(str(exc))
            raise Unavailable(str(exc)) from exc
        except Exception as exc:
            if is_away(exc):
                raise Unavailable(describe_database_fault(exc)) from exc
            if is_partly_damaged(exc):
                raise Refused(describe_database_fault(exc)) from exc
            raise

    def _report(self, mismatch: str) -> None:
        if mismatch != self._mismatch:
            self._mismatch = mismatch
            log.error("store.waits", why=mismatch)

    async def _write(self, connection: AsyncConnection, events: Sequence[StatusEvent]) -> None:
        """Write the batch."""
        arrived = _by_message(dedupe(events).values())
        batch = {key: BatchMessage(key, arrived[key]) for key in sorted(arrived)}
        async with connection.begin():
            inserted = await self._lock(connection, batch)
            others = {key: message for key, message in batch.items() if not message.extend()}
            await self._read(connection, {key: message for key, message in others.items() if not message.is_new})
            for message_uuid, message in others.items():
                if message.take_arrived():
                    await self._read_all(connection, message_uuid, message)
            await self._put(connection, [message for message in batch.values() if message.needs_row()], inserted)

    async def _lock(self, connection: AsyncConnection, batch: Mapping[str, BatchMessage]) -> Mapping[str, Contribution]:
        """Lock the rows of the messages. Return the contributions of those that were inserted with their state.

        PostgreSQL cannot lock a row that does not exist, so missing rows are inserted, in the same order. A row that is
        likely new has its state at once: to insert it empty and update it would cost about a fourth of the time.
        """
        stored: Sequence[Row[Any]] = ()
        others, inserted = list(batch), dict[str, Contribution]()
        if self._sql.insert_and_lock is not None:
            rows, contributions = [], dict[str, Contribution]()
            for message_uuid, message in batch.items():
                if message.is_likely_new():
                    state = project(message.arrived.values())
                    contribution = contributions[message_uuid] = find_contribution(state)
                    rows.append(_make_row(state, contribution.text))
                else:
                    rows.append((message_uuid, *_NO_STATE))
            parameters = self._sql.insert_and_lock.parameters(rows)
            stored = (await connection.exec_driver_sql(self._sql.insert_and_lock.sql, parameters)).all()
            keys = {row.message_uuid for row in stored if row.status is None}
            inserted = {key: contribution for key, contribution in contributions.items() if key in keys}
            others = list(batch.keys() - {row.message_uuid for row in stored})
        for row in (*stored, *await self._select(connection, self._sql.lock, others)):
            message = batch[row.message_uuid]
            message.counted = row.counted
            message.is_new = row.status is None and not row.stale
            if not row.stale:
                message.stored = read_state(row)
        return inserted

    async def _put(
        self, connection: AsyncConnection, batch: Sequence[BatchMessage], inserted: Mapping[str, Contribution]
    ) -> None:
        usual: list[tuple[Any, ...]] = []
        rows: list[tuple[Any, ...]] = []
        marks: dict[bool, set[str]] = {True: set(), False: set()}
        for message in batch:
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
        tally = ContributionTally()
        states = list(_make_rows(batch, inserted, tally))
        put_last = self._sql.put_last and (usual, [row for _, row in states])
        one_by_one = (
            (self._sql.put_usual_events, usual),
            (self._sql.update_messages, [row for keeps_indexed, row in states if keeps_indexed]),
            (self._sql.put_messages, [row for keeps_indexed, row in states if not keeps_indexed]),
        )
        for statement, written in ((self._sql.put_events, rows), *(() if put_last else one_by_one)):
            if written:
                await connection.exec_driver_sql(statement.sql, statement.parameters(written))
        for to, ids in marks.items():
            if ids:
                await connection.execute(self._sql.mark, {"ids": self._sql.ids(sorted(ids)), "to": to})
        await self._rollups.add(connection, tally.sum(), put_last)

    async def _read(self, connection: AsyncConnection, batch: Mapping[str, BatchMessage]) -> None:
        """Read the stored deciding events, and the stored events that the batch has again. Drop repeats."""
        deciding = _by_message(await self._select(connection, self._sql.deciding_receipts, batch))
        again: list[str] = []
        for message_uuid, receipts in deciding.items():
            if len(receipts) >= LEAST_DECIDING:
                message = batch[message_uuid]
                message.read = set(receipts)
                again += message.arrived.keys() - receipts.keys()
        undecisive = _by_message(await self._select(connection, self._sql.receipts, again))
        unread: list[str] = []
        for message_uuid, receipts in deciding.items():
            message, others = batch[message_uuid], undecisive.get(message_uuid, {})
            if message.drop_repeats({**receipts, **others}):
                unread += [*receipts, *(others.keys() & message.arrived.keys())]
        events = map(read_event, await self._select(connection, self._sql.events, unread))
        for message_uuid, stored in _by_message(events).items():
            message, receipts = batch[message_uuid], deciding[message_uuid]
            message.deciding = {event_id: event for event_id, event in stored.items() if event_id in receipts}
            message.undecisive = {event_id: event for event_id, event in stored.items() if event_id not in receipts}

    async def _read_all(self, connection: AsyncConnection, message_uuid: str, message: BatchMessage) -> None:
        """Read all events of a message, because an event that decided may no longer decide."""
        read, after = set(message.deciding), ""
        while message.may_have_undecisive():
            rows = (await connection.execute(self._sql.page, {"message_uuid": message_uuid, "after": after})).all()
            page = {row.event_id: read_event(row) for row in rows if row.event_id not in read}
            message.deciding = {**message.deciding, **page}
            message.reduce()  # an event that does not decide among some events does not decide among all
            if len(rows) < PAGE:
                return
            after = rows[-1].event_id

    async def _select(self, connection: AsyncConnection, statement: Any, ids: Collection[str]) -> Sequence[Row[Any]]:
        """Return the rows of a statement that takes ids."""
        return (await connection.execute(statement, {"ids": self._sql.ids(ids)})).all() if ids else ()


def _make_rows(
    batch: Iterable[BatchMessage], inserted: Mapping[str, Contribution], tally: ContributionTally
) -> Iterator[tuple[bool, tuple[Any, ...]]]:
    """Yield the rows that were not inserted with their state, and tally the contributions of all.

    Each row follows whether the indexes of messages contain its values already.
    """
    for message in batch:
        contribution = inserted.get(message.message_uuid)
        if contribution is None or message.is_stored():
            state = message.state or project(message.deciding.values())
            text = tally.replace(message.counted, find_contribution(state))
            yield message.keeps_indexed(state), _make_row(state, text)
        else:
            tally.replace(None, contribution)


def _make_row(state: MessageState, counted: str) -> tuple[Any, ...]:
    """Return the values of the row of a message."""
    return (*state, state.first_at, counted, False)


def read_event(row: Row[Any]) -> StatusEvent:
    """Parse an event from its row: its payload, and the columns of its receipt."""
    event = parse_again(row.payload, row)
    if event.event_id != row.event_id:  # with hashed numbers
        object.__setattr__(event, "event_id", row.event_id)  # `replace` takes longer than the parser
    return event


def _by_message(events: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Return events, or rows of them, by message and id."""
    by_message: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for event in events:
        by_message[event.message_uuid][event.event_id] = event
    return by_message
