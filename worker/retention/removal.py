"""Removes messages from the tables: by id, or those that are too old.

A message goes with all of its events in one transaction, under the lock that a writer of the message takes. The
roll-ups keep what it has counted. If a webhook of the message comes later, the message is new: it counts once more.
All locks are taken by one statement, in the order of the writers, so that none of them waits for the other's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import collate, delete, exists, select
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
    locked = ids
    if connection.dialect.name == "postgresql":
        order = collate(messages.c.message_uuid, "C")  # all writers lock in this order (worker.store.statements)
        lock = select(messages.c.message_uuid).where(messages.c.message_uuid.in_(ids)).order_by(order)
        # A row that a writer inserts after this stays: a lock on it now could be a deadlock with another writer.
        locked = (await connection.execute(lock.with_for_update())).scalars().all()
    else:
        await connection.exec_driver_sql("PRAGMA secure_delete = ON")  # the free pages keep nothing
    rows = await connection.execute(delete(messages).where(messages.c.message_uuid.in_(locked)))
    has_row = exists().where(messages.c.message_uuid == status_events.c.message_uuid)
    events = await connection.execute(delete(status_events).where(status_events.c.message_uuid.in_(ids), ~has_row))
    return RemovedRows(rows.rowcount, events.rowcount)
