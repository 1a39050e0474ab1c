"""Deduplication: a group does not handle an event again when the provider repeats it within the dedup window.

The script that acks a handled event also adds a mark of the event, with the server's time, to one sorted set. The
worker may handle both copies if they are in flight at the same time. Retries and replays are not deduplicated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stream.redis.scripts import read_script
from worker.events.event import StatusEvent
from worker.group.group_ref import GroupRef

MARK_BYTES = 16  # the scripts split the marks at this length
ASKED_AT_ONCE = 1000  # Lua unpacks no more than 8,000 values

ACK_AND_MARK = read_script(__file__, "ack_and_mark.lua")
KNOWN = read_script(__file__, "find_marks.lua")


@dataclass(frozen=True, slots=True)
class DedupWindow:
    """How long, and for how many events at most, a group keeps the marks of handled events."""

    seconds: float
    entries: int


def mark(event: StatusEvent) -> bytes:
    """Return the dedup mark of an event."""
    return bytes.fromhex(event.event_id[: 2 * MARK_BYTES])


class Deduplicator:
    """Finds events that one group has handled."""

    def __init__(self, group: GroupRef, window: DedupWindow) -> None:
        self._keys = [group.handled]
        self._window = window
        self._known = group.server.register_script(KNOWN)

    async def find_handled(self, events: Sequence[StatusEvent], settling: frozenset[bytes] = frozenset()) -> list[int]:
        """Return the places of the events that were handled before, or whose mark is in ``settling``.

        Raises RedisError.
        """
        marks = [mark(event) for event in events]
        places = {place for place, candidate in enumerate(marks) if candidate in settling} if settling else set[int]()
        for start in range(0, len(marks), ASKED_AT_ONCE):
            batch = b"".join(marks[start : start + ASKED_AT_ONCE])
            reply: Any = await self._known(keys=self._keys, args=[round(self._window.seconds * 1000), batch])
            places |= {start + int(place) - 1 for place in reply}
        return sorted(places)
