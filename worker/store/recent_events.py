"""Caches recently used events, so that the next status of a message does not parse them again."""

from collections import OrderedDict
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from worker.events.event import StatusEvent
from worker.store.statements import RECEIPT

REMEMBERED_BYTES = 64 << 20
"""About 30,000 events of 550 bytes: the deciding events of the 5,000 to 10,000 messages that changed last."""

_OBJECT_BYTES = 1024
_RECEIPT_VALUES = attrgetter("event_id", *RECEIPT)


class RecentEvents:
    """A cache of events by their id.

    The content of an event is a function of its id, but its receipt is not: another writer may have stored an earlier
    one. So an event is returned only if it has the receipt in the database.
    """

    def __init__(self) -> None:
        self._events: OrderedDict[str, StatusEvent] = OrderedDict()
        self._bytes = 0

    def remember(self, events: Iterable[StatusEvent]) -> None:
        """Add events, and remove the least recently used ones beyond REMEMBERED_BYTES."""
        for event in events:
            self._bytes += _size(event)
            if previous := self._events.pop(event.event_id, None):
                self._bytes -= _size(previous)
            self._events[event.event_id] = event
        while self._bytes > REMEMBERED_BYTES:
            self._bytes -= _size(self._events.popitem(last=False)[1])

    def find(self, receipt: tuple[Any, ...]) -> StatusEvent | None:
        """Return the event if the cache has it with this receipt: its id, and the columns of RECEIPT."""
        event = self._events.get(receipt[0])
        if event is None or _RECEIPT_VALUES(event) != receipt:
            return None
        self._events.move_to_end(event.event_id)
        return event


def _size(event: StatusEvent) -> int:
    """Return the approximate bytes of an event: its payload and query, its parsed fields, and the objects."""
    texts = sum(map(len, (*event.query, *event.query.values()))) if event.query else 0
    return _OBJECT_BYTES + 2 * len(event.raw) + texts
