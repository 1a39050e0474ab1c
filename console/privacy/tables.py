"""The places in the database. A message goes with all of its events, and the roll-ups keep its counts."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Table, Text, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from console.privacy.place import Pages
from console.privacy.places import TABLES
from console.privacy.selection import Record, Selection
from worker.retention.removal import MESSAGES_AT_ONCE, remove_messages
from worker.store.database import open_connection
from worker.store.tables import messages, rollup_dimensions, status_events

PAGE = 1000
MESSAGES, EVENTS, DIMENSIONS = (str(TABLES[table.name].place) for table in (messages, status_events, rollup_dimensions))

_TEXTS = {
    table: [column for column in table.columns if isinstance(column.type, Text)]
    for table in (messages, rollup_dimensions)
}


class Messages:
    """The messages and their events."""

    name = MESSAGES

    def __init__(self, engine: AsyncEngine) -> None:
        self.seen = 0
        self._engine = engine
        self._reading = engine.execution_options(read_only=True)

    async def find(self, selection: Selection) -> Pages:
        """Yield the rows of the selection. Raises DatabaseAway and errors of the driver.

        A page of a complete selection has all rows of some messages, so ``erase`` removes exactly these rows.
        """
        subject = selection.subject
        if not selection.is_complete and (subject.numbers or subject.client_refs):
            for table, read in ((messages, _read_message), (status_events, _read_event)):
                async for rows in read_table(self._reading, table):
                    self.seen += len(rows)
                    yield [record for record in map(read, rows) if selection.has(record)]
            return
        ids = sorted(selection.messages)
        for start in range(0, len(ids), MESSAGES_AT_ONCE):
            records = await self._find_messages(ids[start : start + MESSAGES_AT_ONCE])
            self.seen += len(records)
            yield records

    async def erase(self, records: Sequence[Record], _selection: Selection) -> Mapping[str, int]:
        """Delete the messages of these rows with their events."""
        removed = await remove_messages(self._engine, sorted({str(record.message_uuid) for record in records}))
        return {MESSAGES: removed.messages, EVENTS: removed.events}

    async def _find_messages(self, ids: Sequence[str]) -> list[Record]:
        async with open_connection(self._reading) as connection, connection.begin():
            rows = await _read_rows_of(connection, messages, ids)
            events = await _read_rows_of(connection, status_events, ids)
        return [*map(_read_message, rows), *map(_read_event, events)]


class Dimensions:
    """The dimensions of the roll-ups: an error code is a text of a payload, which may name a number."""

    name = DIMENSIONS

    def __init__(self, engine: AsyncEngine) -> None:
        self.seen = 0
        self._engine = engine
        self._reading = engine.execution_options(read_only=True)

    async def find(self, selection: Selection) -> Pages:
        """Yield the dimensions with a text of the subject. Raises DatabaseAway and errors of the driver."""
        async for rows in read_table(self._reading, rollup_dimensions):
            self.seen += len(rows)
            records = [Record(row.id, _texts_of(rollup_dimensions, row)) for row in rows]
            yield [record for record in records if selection.has(record)]

    async def erase(self, records: Sequence[Record], selection: Selection) -> Mapping[str, int]:
        """Empty these texts; the counts stay. Raises DatabaseAway and errors of the driver."""
        async with open_connection(self._engine) as connection, connection.begin():
            for record in records:
                values = {
                    name.decode(): "" for name, text in record.fields.items() if selection.has_text(text.decode())
                }
                change = update(rollup_dimensions).where(rollup_dimensions.c.id == record.key).values(values)
                await connection.execute(change)
        return {DIMENSIONS: len(records)}


async def read_table(engine: AsyncEngine, table: Table) -> AsyncIterator[Sequence[Any]]:
    """Yield all rows in the order of a key that never changes, each page in a short transaction of its own."""
    key: Any = literal_column("rowid") if engine.dialect.name == "sqlite" else next(iter(table.primary_key.columns))
    query = select(key.label("row_key"), *table.columns).order_by(key).limit(PAGE)
    after: Any = None
    async with open_connection(engine) as connection:
        while True:
            async with connection.begin():
                rows = (await connection.execute(query if after is None else query.where(key > after))).all()
            yield rows
            if len(rows) < PAGE:
                return
            after = rows[-1].row_key


async def _read_rows_of(connection: AsyncConnection, table: Table, ids: Sequence[str]) -> Sequence[Any]:
    return (await connection.execute(select(*table.columns).where(table.c.message_uuid.in_(ids)))).all()


def _read_message(row: Any) -> Record:
    return Record(row.message_uuid, _texts_of(messages, row), message_uuid=row.message_uuid, place=MESSAGES)


def _read_event(row: Any) -> Record:
    fields = {b"payload": row.payload, b"query": orjson.dumps(row.query) if row.query else b""}
    return Record(row.event_id, fields, row.entry, row.message_uuid, EVENTS)


def _texts_of(table: Table, row: Any) -> dict[bytes, bytes]:
    """Return the texts of a row by the names of their columns."""
    values = ((column.name, getattr(row, column.key)) for column in _TEXTS[table])
    return {name.encode(): value.encode() for name, value in values if value}
