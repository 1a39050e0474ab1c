"""Removes messages from the tables: by id, or those that are too old.

A message goes with all of its events in one transaction, under the lock that a writer of the message takes. The
roll-ups keep what it has counted. If a webhook of the message comes later, the message is new: it counts once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import collate, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.store.database import open_connection
from worker.store.tables import messages, status_events

MESSAGES_AT_ONCE = 200
"""A transaction with so few messages holds its locks for some milliseconds."""


@dataclass(frozen=True, slots=True)
class RemovedRows:
    """How many rows were removed from each table."""

    messages: int = 0
    events: int = 0


async def remove_messages(engine: AsyncEngine, ids: Sequence[str]) -> RemovedRows:
    """Remove up to MESSAGES_AT_ONCE messages with their events. Raises errors of the database."""
    async with open_connection(engine) as connection, connection.begin():
        return await _remove(connection, ids)


async def remove_old_messages(engine: AsyncEngine, before: datetime) -> RemovedRows:
    """Remove up to MESSAGES_AT_ONCE messages whose first status is older; the oldest first."""
    oldest = (
        select(messages.c.message_uuid)
        .where(messages.c.first_at < before)
        .order_by(messages.c.first_at)
        .limit(MESSAGES_AT_ONCE)
    )
    async with open_connection(engine) as connection, connection.begin():
        ids = (await connection.execute(oldest)).scalars().all()
        return await _remove(connection, ids) if ids else RemovedRows()


async def _remove(connection: AsyncConnection, ids: Sequence[str]) -> RemovedRows:
    is_postgresql = connection.dialect.name == "postgresql"
    if is_postgresql:
        order = collate(messages.c.message_uuid, "C")  # all writers lock in this order (worker.store.statements)
        lock = select(messages.c.message_uuid).where(messages.c.message_uuid.in_(ids)).order_by(order)
        await connection.execute(lock.with_for_update())
    else:
        await connection.exec_driver_sql("PRAGMA secure_delete = ON")  # the free pages keep nothing
    events = await connection.execute(delete(status_events).where(status_events.c.message_uuid.in_(ids)))
    rows = await connection.execute(delete(messages).where(messages.c.message_uuid.in_(ids)))
    return RemovedRows(rows.rowcount, events.rowcount)
