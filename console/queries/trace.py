"""Trace one message: its state and events from the tables, and the outcomes of its entries from Redis."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from console.format import mask_numbers
from stream.keys import Shard
from worker.events.event import mask
from worker.events.timestamps import iso_time
from worker.group.consumer_group import read_group_names
from worker.group.group_ref import GroupRef
from worker.settle.history import find_outcomes
from worker.store.handler import read_event
from worker.store.projection import sort_key
from worker.store.tables import messages, status_events

HIDDEN = "***"

Show = Callable[[str | None], str | None]

_STATE_COLUMNS = ("account", "application", "status", "channel", "client_ref", "error_code", "price", "currency")


async def find_trace(engine: AsyncEngine, message_uuid: str, *, reveal: bool) -> Mapping[str, Any] | None:
    """Return the message and its events, the current one last; None if it is not in the tables.

    Without ``reveal`` numbers and the values of query parameters are masked. Times are ISO 8601 in UTC.
    """
    async with engine.connect() as connection:
        result = await connection.execute(select(messages).where(messages.c.message_uuid == message_uuid))
        state = result.mappings().one_or_none()
        rows = await connection.execute(select(status_events).where(status_events.c.message_uuid == message_uuid))
        events = sorted(map(read_event, rows), key=sort_key)
    if state is None:
        return None
    show: Show = (lambda number: number) if reveal else mask
    return {
        "message_uuid": message_uuid,
        **{name: state[messages.c[name]] for name in _STATE_COLUMNS},
        "to": show(state[messages.c.to]),
        "from": show(state[messages.c.sender]),
        "statuses": state[messages.c.statuses],
        "events": [
            {
                "event_id": event.event_id,
                "status": event.status,
                "occurred_at": event.occurred_at.isoformat() if event.occurred_at else None,
                "received_at": event.received_at.isoformat(),
                "entry": event.entry,
                "query": dict(event.query) if reveal else dict.fromkeys(event.query, HIDDEN),
            }
            for event in events
        ],
    }


async def find_history(server: Redis, shard: Shard, entries: Collection[str], *, reveal: bool) -> list[dict[str, Any]]:
    """Return the outcomes of entries that a group did not handle at their first attempt, oldest first for each group.

    Each group keeps only its latest outcomes. Raises RedisError.
    """
    show = str if reveal else mask_numbers
    return [
        {
            "group": group,
            "entry": outcome.origin,
            "outcome": outcome.outcome,
            "attempt": outcome.attempt,
            "at": iso_time(moment_ms),
            "error": show(outcome.error) or None,
        }
        for group in await read_group_names(server, shard)
        async for moment_ms, outcome in find_outcomes(GroupRef(server, shard, group), entries)
    ]
