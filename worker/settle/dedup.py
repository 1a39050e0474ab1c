"""Deduplication: a group does not handle an event again when the provider repeats it within the dedup window.

The script that acks a handled event also adds a mark of the event, with the server's time, to one sorted set. The
worker may handle both copies if they are in flight at the same time. Retries and replays are not deduplicated.

A repeat may be on another shard than the first webhook. So the mark itself chooses the shard that has it. Marks of
another shard than the entry's are written before the ack: if the worker dies in between, the entry counts as a repeat.
After a change of the number of shards, all shards are asked until the marks of before have expired.

In order mode on a cluster a repeat is on the shard of the first webhook, and so are the marks: a node that is away must
not stop the other shards.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stream.keys import Shard
from stream.layout import Layout
from stream.redis.scripts import read_script
from worker.events.event import StatusEvent
from worker.group.group_ref import GroupRef

MARK_BYTES = 16  # the scripts split the marks at this length
ASKED_AT_ONCE = 1000  # Lua unpacks no more than 8,000 values
NOTICED_SECONDS = 60.0
"""All workers have noticed a change of the layout after this time."""

ACK_AND_MARK = read_script(__file__, "ack_and_mark.lua")
KNOWN = read_script(__file__, "find_marks.lua")


@dataclass(frozen=True, slots=True)
class DedupWindow:
    """How long, and for how many events at most on one shard, a group keeps the marks of handled events."""

    seconds: float
    entries: int
    is_local: bool = False
    """Whether the marks of an event are on the shard of its entry: repeats come to the same shard."""


def mark(event: StatusEvent) -> bytes:
    """Return the dedup mark of an event."""
    return bytes.fromhex(event.event_id[: 2 * MARK_BYTES])


class MarkPlaces:
    """The shards that have the marks of one group's events."""

    def __init__(self, group: GroupRef, window: DedupWindow, layout: Callable[[], Layout] = Layout) -> None:
        self._group = group
        self._window = window
        self._layout = layout

    @property
    def limits(self) -> tuple[int, int]:
        """How long one shard keeps a mark, in ms, and how many it keeps."""
        return round(self._window.seconds * 1000), self._window.entries

    def split(self, marks: Iterable[bytes]) -> Mapping[int, list[bytes]]:
        """Return the marks that each shard gets."""
        if self._window.is_local:
            return {self._group.shard.number: list(marks)}
        places: dict[int, list[bytes]] = {}
        for each in marks:
            places.setdefault(int.from_bytes(each[:4]) % self._layout().used, []).append(each)
        return places

    def candidates(self, marks: Sequence[bytes]) -> Mapping[int, Sequence[bytes]]:
        """Return the marks to look for on each shard."""
        layout = self._layout()
        if layout.known > 1 and time.time() - layout.changed_ms / 1000 < self._window.seconds + NOTICED_SECONDS:
            return dict.fromkeys(range(layout.known), marks)
        return self.split(marks) if layout.used > 1 or self._window.is_local else {0: marks}

    def keys(self, number: int) -> list[str]:
        """Return the keys of the ack script for marks of this shard: a stream, and the marks."""
        shard = Shard(self._group.shard.name, number)
        return [shard.stream, shard.handled(self._group.name)]


class Deduplicator:
    """Finds events that one group has handled."""

    def __init__(self, group: GroupRef, window: DedupWindow, layout: Callable[[], Layout] = Layout) -> None:
        self._places = MarkPlaces(group, window, layout)
        self._window = window
        self._known = group.server.register_script(KNOWN)

    async def find_handled(self, events: Sequence[StatusEvent], settling: frozenset[bytes] = frozenset()) -> list[int]:
        """Return the places of the events that were handled before, or whose mark is in ``settling``.

        Raises RedisError.
        """
        marks = [mark(event) for event in events]
        known = set(settling)
        for number, candidates in self._places.candidates(marks).items():
            for start in range(0, len(candidates), ASKED_AT_ONCE):
                batch = candidates[start : start + ASKED_AT_ONCE]
                args: list[Any] = [round(self._window.seconds * 1000), b"".join(batch)]
                reply: Any = await self._known(keys=self._places.keys(number)[1:], args=args)
                known |= {batch[int(place) - 1] for place in reply}
        return [place for place, each in enumerate(marks) if each in known]
