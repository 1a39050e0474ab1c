"""Deduplication: an event that a group has handled is not handled again for some time when the provider repeats it.

The script that settles a handled event also marks it, by the server's clock, in one sorted set. Two copies that are in
flight at once may both be handled. Retries and replays are wanted, and are not asked about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stream.redis.scripts import read_script
from worker.events.event import StatusEvent
from worker.group.group_ref import GroupRef

MARK_BYTES = 16  # the scripts cut them apart
ASKED_AT_ONCE = 1000  # Lua unpacks no more than 8,000 values

ACK_AND_MARK = read_script(__file__, "ack_and_mark.lua")
KNOWN = read_script(__file__, "find_marks.lua")


@dataclass(frozen=True, slots=True)
class DedupWindow:
    """For how long, and of how many events at most, a group remembers that it has handled them."""

    seconds: float
    entries: int


def mark(event: StatusEvent) -> bytes:
    """Return the bytes by which an event is remembered."""
    return bytes.fromhex(event.event_id[: 2 * MARK_BYTES])


class Deduplicator:
    """The events that one group has handled."""

    def __init__(self, group: GroupRef, memory: DedupWindow) -> None:
        self._keys = [group.handled]
        self._memory = memory
        self._known = group.server.register_script(KNOWN)

    async def find_handled(self, events: Sequence[StatusEvent], settling: frozenset[bytes] = frozenset()) -> list[int]:
        """Return the places of the events that were handled before, or whose mark is in ``settling``.

        Raises RedisError.
        """
        marks = [mark(event) for event in events]
        places = {place for place, one in enumerate(marks) if one in settling} if settling else set[int]()
        for start in range(0, len(marks), ASKED_AT_ONCE):
            asked = b"".join(marks[start : start + ASKED_AT_ONCE])
            found: Any = await self._known(keys=self._keys, args=[round(self._memory.seconds * 1000), asked])
            places |= {start + int(place) - 1 for place in found}
        return sorted(places)
