"""Read one message from the tables: its state, and its events."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.events.event import StatusEvent, mask, mask_numbers
from worker.store.database import open_connection
from worker.store.handler import read_event
from worker.store.projection import dedupe, project, sort_key
from worker.store.tables import messages, status_events

HIDDEN = "***"
MOST_EVENTS = 100
"""At most this many events of a message are read, those that were received last."""

Show = Callable[[str | None], str | None]

_STATE_COLUMNS = (
    "account",
    "application",
    "status",
    "channel",
    "client_ref",
    "error_code",
    "price",
    "currency",
    "parts",
    "network_code",
    "workflow_id",
    "workflow_item",
    "workflow_items",
)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message in the tables. ``events`` has the current one last; ``is_cut`` means that there are more."""

    state: Mapping[str, Any]
    events: Sequence[StatusEvent]
    is_cut: bool = False

    @classmethod
    def from_events(cls, events: Collection[StatusEvent]) -> Self:
        """Return the message that the tables will have once these events are stored; at least one event."""
        ordered = sorted(dedupe(events).values(), key=sort_key)
        state = project(ordered)._asdict()
        return cls({**state, "statuses": {name: at.isoformat() for name, at in state["statuses"].items()}}, ordered)

    def describe(self, *, reveal: bool) -> dict[str, Any]:
        """Return the message and its events. Without ``reveal`` numbers and values of query parameters are masked.

        Times are ISO 8601 in UTC.
        """
        show: Show = (lambda number: number) if reveal else mask
        status_at = self.state["status_at"]
        return {
            "message_uuid": self.state["message_uuid"],
            **{name: self.state[name] for name in _STATE_COLUMNS},
            "error_text": self._describe_error(reveal=reveal),
            "to": show(self.state["to"]),
            "from": show(self.state["sender"]),
            "status_at": status_at.isoformat() if status_at else None,
            "statuses": self.state["statuses"],
            "events": [_describe_event(event, reveal=reveal) for event in self.events],
            "events_cut": self.is_cut,
        }

    def _describe_error(self, *, reveal: bool) -> str | None:
        text = self.state["error_text"]
        return text if reveal or text is None else mask_numbers(text)


def _describe_event(event: StatusEvent, *, reveal: bool) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "status": event.status,
        "occurred_at": event.occurred_at.isoformat() if event.occurred_at else None,
        "received_at": event.received_at.isoformat(),
        "entry": event.entry,
        "query": dict(event.query) if reveal else dict.fromkeys(event.query, HIDDEN),
    }


async def read_message(engine: AsyncEngine, message_uuid: str) -> StoredMessage | None:
    """Return the message; None if it is not in the tables. Raises DatabaseAway and the errors of the driver."""
    newest = select(status_events).where(status_events.c.message_uuid == message_uuid)
    newest = newest.order_by(status_events.c.received_at.desc(), status_events.c.event_id).limit(MOST_EVENTS + 1)
    async with open_connection(engine) as connection:
        result = await connection.execute(select(messages).where(messages.c.message_uuid == message_uuid))
        row = result.mappings().one_or_none()
        rows = (await connection.execute(newest)).all() if row else []
    if row is None:
        return None
    state = {column.key: row[column] for column in messages.columns}
    events = sorted(map(read_event, rows[:MOST_EVENTS]), key=sort_key)
    return StoredMessage(state, events, is_cut=len(rows) > MOST_EVENTS)
