"""The events that were stored last, so that a message's next status need not parse them again."""

from collections import OrderedDict
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from worker.events.event import StatusEvent
from worker.store.statements import RECEIPT

REMEMBERED = 16_384
REMEMBERED_BYTES = 4096

_RECEIPT_VALUES = attrgetter(*RECEIPT)


class RecentEvents:
    """Remembers events by their id.

    An event's content is a function of its id; its receipt is not (another writer may have stored an earlier one), so
    an event is found only if it has the receipt that stands in the database.
    """

    def __init__(self) -> None:
        self._events: OrderedDict[str, StatusEvent] = OrderedDict()

    def keep(self, events: Iterable[StatusEvent]) -> None:
        """Remember these, and forget the oldest beyond REMEMBERED."""
        self._events.update((event.event_id, event) for event in events if len(event.raw) <= REMEMBERED_BYTES)
        while len(self._events) > REMEMBERED:
            self._events.popitem(last=False)

    def find(self, event_id: str, receipt: list[Any]) -> StatusEvent | None:
        """Return the event if it is remembered with this receipt (the columns of RECEIPT)."""
        event = self._events.get(event_id)
        return event if event is not None and _RECEIPT_VALUES(event) == tuple(receipt) else None
