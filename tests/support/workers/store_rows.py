"""The rows that `store` has written, and the rows that a projection of the events gives."""

from collections import defaultdict
from typing import Any

from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.events.event import StatusEvent
from worker.store.handler import read_event
from worker.store.projection import MessageState, dedupe, project
from worker.store.rollups import TABLES
from worker.store.tables import messages, status_events

Rows = dict[str, dict[str, Any]]


def project_states(events: list[StatusEvent]) -> dict[str, MessageState]:
    """Return the state of each message after these events."""
    by_message: defaultdict[str, list[StatusEvent]] = defaultdict(list)
    for event in dedupe(events).values():
        by_message[event.message_uuid].append(event)
    return {message_uuid: project(events) for message_uuid, events in by_message.items()}


async def read_rows(engine: AsyncEngine) -> tuple[Rows, Rows]:
    """Return the rows of `messages`, without what the roll-ups need, and of `status_events`, each by its key."""
    async with engine.connect() as connection:
        states = (await connection.execute(select(*(messages.c[key] for key in MessageState._fields)))).all()
        events = (await connection.execute(select(status_events))).all()
    messages_by_key = {row[0]: dict(zip(MessageState._fields, row, strict=True)) for row in states}
    return messages_by_key, {row.event_id: {"row": tuple(row), "event": read_event(row)} for row in events}


def project_rows(events: list[StatusEvent]) -> Rows:
    """Return the rows of `messages` that the projection of these events gives."""
    rows: Rows = {}
    for message_uuid, state in project_states(events).items():
        rows[message_uuid] = state._asdict() | {
            "statuses": {name: at.isoformat() for name, at in state.statuses.items()}
        }
    return rows


async def clear_tables(engine: AsyncEngine) -> None:
    """Delete all rows."""
    async with engine.begin() as connection:
        for table in (messages, status_events, *TABLES):
            await connection.execute(delete(table))


async def count_rows(engine: AsyncEngine, table: str) -> int:
    """Count the rows of a table."""
    async with engine.connect() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())  # noqa: S608
