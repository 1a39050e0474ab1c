"""Adds messages to the roll-ups whose rows an earlier version has written: all of them after revision 0002.

Each batch is a short transaction that locks messages as ``store`` does, so workers write at the same time. A recount
that was interrupted continues with the messages that are still stale.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from sqlalchemy import bindparam, select, text, true, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.store.contribution import ContributionTally, find_contribution
from worker.store.database import open_connection
from worker.store.migrations.indexes import STALE, read_indexes
from worker.store.rollups import Rollups
from worker.store.statements import Statements, read_state
from worker.store.tables import messages

PAGE = 5000
BATCH = 500
REPORT_SECONDS = 5.0

_UPDATE = (
    update(messages)
    .where(messages.c.message_uuid == bindparam("key"))
    .values(first_at=bindparam("first"), counted=bindparam("contribution"), stale=False)
)
_UPDATE_ARRAYS = text(
    "UPDATE messages SET first_at = rows.first_at, counted = rows.counted, stale = false "
    "FROM unnest(CAST(:key AS text[]), CAST(:first AS timestamptz[]), CAST(:contribution AS text[])) "
    "AS rows (message_uuid, first_at, counted) WHERE messages.message_uuid = rows.message_uuid"
)


async def recount_stale(engine: AsyncEngine, report: Callable[[str], None]) -> None:
    """Count the stale messages. Raises DatabaseAway, or an error of the database."""
    recount = _Recount(engine)
    number, reported = 0, time.monotonic()
    async for ids in recount.find_stale():
        for start in range(0, len(ids), BATCH):
            await recount.count(sorted(ids[start : start + BATCH]))
            number += len(ids[start : start + BATCH])
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                report(f"counted {number:,} messages of an earlier version")
    if number:
        report(f"counted {number:,} messages of an earlier version: done")


class _Recount:
    """Counts stale messages of one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sql = Statements(engine.dialect)
        self._rollups = Rollups(engine.dialect)

    async def find_stale(self) -> AsyncIterator[Sequence[str]]:
        """Yield the ids of stale messages, page by page. Without the index of stale messages all rows are read."""
        page = select(messages.c.message_uuid, messages.c.stale).order_by(messages.c.message_uuid).limit(PAGE)
        if (await read_indexes(self._engine)).get(STALE):
            page = page.where(messages.c.stale == true())
        after = ""
        while True:
            async with open_connection(self._engine) as connection, connection.begin():
                rows = (await connection.execute(page.where(messages.c.message_uuid > after))).all()
            if not rows:
                return
            after = rows[-1].message_uuid
            yield [row.message_uuid for row in rows if row.stale]

    async def count(self, ids: Sequence[str]) -> None:
        """Count these messages in one transaction, unless they are not stale any more."""
        began = time.monotonic()
        async with open_connection(self._engine) as connection, connection.begin():
            rows = (await connection.execute(self._sql.lock, {"ids": self._sql.ids(ids)})).all()
            tally = ContributionTally()
            changed = [
                {
                    "key": state.message_uuid,
                    "first": state.first_at,
                    "contribution": tally.replace(row.counted, find_contribution(state)),
                }
                for row in rows
                if row.stale and (state := read_state(row)) is not None and state.statuses
            ]
            if changed:
                await self._update(connection, changed)
                await self._rollups.add(connection, tally.sum())
        if self._engine.dialect.name == "sqlite":
            await asyncio.sleep(2 * (time.monotonic() - began))  # a writer that waits for the lock polls for it

    async def _update(self, connection: AsyncConnection, changed: Sequence[dict[str, Any]]) -> None:
        if self._engine.dialect.name == "sqlite":
            await connection.execute(_UPDATE, changed)
            return
        await connection.execute(_UPDATE_ARRAYS, {name: [row[name] for row in changed] for name in changed[0]})
