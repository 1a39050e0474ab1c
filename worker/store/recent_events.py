"""The events that were used last, so that a message's next status need not parse them again."""

from collections import OrderedDict
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from worker.events.event import StatusEvent
from worker.store.statements import RECEIPT

REMEMBERED_BYTES = 64 << 20
"""About 30,000 events of the usual 550 bytes: what decides for the 5,000 to 10,000 messages that changed last."""

_OBJECT_BYTES = 1024
_RECEIPT_VALUES = attrgetter("event_id", *RECEIPT)


class RecentEvents:
    """Remembers events by their id.

    An event's content is a function of its id; its receipt is not (another writer may have stored an earlier one), so
    an event is found only if it has the receipt that stands in the database.
    """

    def __init__(self) -> None:
        self._events: OrderedDict[str, StatusEvent] = OrderedDict()
        self._bytes = 0

    def keep(self, events: Iterable[StatusEvent]) -> None:
        """Remember these, and forget those that were not used for the longest time beyond REMEMBERED_BYTES."""
        for event in events:
            self._bytes += _size(event)
            if known := self._events.pop(event.event_id, None):
                self._bytes -= _size(known)
            self._events[event.event_id] = event
        while self._bytes > REMEMBERED_BYTES:
            self._bytes -= _size(self._events.popitem(last=False)[1])

    def find(self, receipt: tuple[Any, ...]) -> StatusEvent | None:
        """Return the event if it is remembered with this receipt: its id, and the columns of RECEIPT."""
        event = self._events.get(receipt[0])
        if event is None or _RECEIPT_VALUES(event) != receipt:
            return None
        self._events.move_to_end(event.event_id)
        return event


def _size(event: StatusEvent) -> int:
    """Return about how many bytes an event takes: its payload and query, what was read from it, and the objects."""
    texts = sum(map(len, (*event.query, *event.query.values()))) if event.query else 0
    return _OBJECT_BYTES + 2 * len(event.raw) + texts
