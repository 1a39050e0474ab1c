"""The gate of order mode: at most one event of a message is in flight, and the earliest one goes first. No I/O.

Each message with an open event has a lane. An event whose lane is free passes. The others wait: they stay pending on
their stream, and the gate keeps their ids only. A lane becomes free when its event is settled for good. An event that
failed closes its lane until its delayed retry has come back and is settled, or is gone.

The order is that of the first entries: a copy (retry, replay) counts as the entry that it is a copy of.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from stream.entry import EntryId
from worker.events.event import StatusEvent
from worker.sources import Source

MOST_WAITING = 1_000_000
"""With this number of waiting events on a shard, its owner reads no live entries. An id takes about 60 bytes."""

Key = tuple[Source, bytes]
"""The stream of an entry, and its id there."""


@dataclass(slots=True)
class Lane:
    """The open events of one message."""

    is_busy: bool = True
    """Whether an event is in flight."""
    live: deque[bytes] | None = None
    """The ids of waiting live entries, in order; None until one waits, because an empty deque takes 760 bytes."""
    copies: list[tuple[EntryId, Source, bytes]] = field(default_factory=list)
    """A heap: the waiting retries and replays."""
    away: dict[EntryId, float] = field(default_factory=dict)
    """The delayed retries, each with the time at which it is due, by the clock of the process."""


class MessageGate:
    """The lanes of one group on one shard."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._lanes: dict[str, Lane] = {}
        self._in_flight: dict[Key, str] = {}
        self._loading: set[Key] = set()
        self._due: dict[str, None] = {}
        self.waiting: Counter[Source] = Counter()
        """How many entries of each stream wait."""

    @property
    def is_full(self) -> bool:
        """Whether too many events wait to read more live ones."""
        return self.waiting.total() >= MOST_WAITING

    @property
    def has_due(self) -> bool:
        """Whether a waiting event may go now."""
        return bool(self._due)

    def reset(self) -> None:
        """Forget everything: another consumer of the group may have the entries."""
        self._lanes.clear()
        self._in_flight.clear()
        self._loading.clear()
        self._due.clear()
        self.waiting.clear()

    def admit(self, source: Source, entry_ids: Sequence[bytes], events: Sequence[StatusEvent]) -> list[int]:
        """Take entries in the order of their stream. Return the places of those that have to wait."""
        return [
            place
            for place, (entry_id, event) in enumerate(zip(entry_ids, events, strict=True))
            if not self._passes((source, entry_id), event)
        ]

    def settle(self, source: Source, entry_ids: Iterable[bytes]) -> None:
        """Free the lanes of events that are settled for good."""
        for entry_id in entry_ids:
            self._free((source, entry_id))

    def delay(self, source: Source, entry_id: bytes, origin: EntryId, due: float) -> None:
        """Close the lane of an event that failed and is delayed."""
        message = self._in_flight.get((source, entry_id))
        if message is not None:
            self._lanes[message].away[origin] = due
        self._free((source, entry_id))

    def note_away(self, message: str, origin: EntryId, due: float) -> None:
        """Close the lane of a message that has a delayed retry."""
        lane = self._lanes.setdefault(message, Lane(is_busy=False))
        lane.away.setdefault(origin, due)

    def find_overdue(self, now: float) -> set[tuple[str, EntryId]]:
        """Return the delayed retries that should have come back before ``now``."""
        return {
            (message, origin) for message, lane in self._lanes.items() for origin, due in lane.away.items() if due < now
        }

    def remove_away(self, message: str, origin: EntryId) -> None:
        """Forget a delayed retry: it no longer exists."""
        lane = self._lanes.get(message)
        if lane is not None:
            lane.away.pop(origin, None)
            self._update(message, lane)

    def take_due(self, limit: int) -> Mapping[Source, list[bytes]]:
        """Return the waiting entries that may go now, one for each free lane. They count as in flight."""
        due: dict[Source, list[bytes]] = {}
        while self._due and limit > 0:
            message = next(iter(self._due))
            del self._due[message]
            lane, limit = self._lanes[message], limit - 1
            source, entry_id = self._pop(lane)
            lane.is_busy = True
            self._in_flight[source, entry_id] = message
            self._loading.add((source, entry_id))
            due.setdefault(source, []).append(entry_id)
        return due

    def _passes(self, key: Key, event: StatusEvent) -> bool:
        if key in self._loading:
            self._loading.discard(key)
            return True
        source, entry_id = key
        origin, lane = EntryId.from_text(event.entry), self._lanes.get(event.message_uuid)
        if lane is None:
            self._lanes[event.message_uuid] = Lane()
            self._in_flight[key] = event.message_uuid
            return True
        if source is Source.RETRY:  # a replay of the same entry does not end the wait for the retry
            lane.away.pop(origin, None)
        if not lane.is_busy and self._may_go(lane, origin):
            self._due.pop(event.message_uuid, None)
            lane.is_busy, self._in_flight[key] = True, event.message_uuid
            return True
        if source is Source.LIVE:
            lane.live = lane.live or deque()
            lane.live.append(entry_id)
        else:
            heappush(lane.copies, (origin, source, entry_id))
        self.waiting[source] += 1
        self._update(event.message_uuid, lane)
        return False

    def _free(self, key: Key) -> None:
        message = self._in_flight.pop(key, None)
        if message is None:  # settled without a call
            return
        self._loading.discard(key)
        lane = self._lanes[message]
        lane.is_busy = False
        self._update(message, lane)

    def _update(self, message: str, lane: Lane) -> None:
        """Note whether an event of the lane may go now, and forget an empty lane."""
        if lane.is_busy:
            return
        first = self._first(lane)
        if first is None and not lane.away:
            del self._lanes[message]
        if first is not None and self._may_go(lane, first):
            self._due[message] = None
        else:
            self._due.pop(message, None)

    def _may_go(self, lane: Lane, origin: EntryId) -> bool:
        first = self._first(lane)
        return (first is None or origin <= first) and all(origin <= away for away in lane.away)

    def _first(self, lane: Lane) -> EntryId | None:
        live = EntryId.from_redis(self._shard, lane.live[0]) if lane.live else None
        copy = lane.copies[0][0] if lane.copies else None
        return min(filter(None, (live, copy)), default=None)

    def _pop(self, lane: Lane) -> Key:
        live, copies = lane.live, lane.copies
        if live and not (copies and copies[0][0] <= EntryId.from_redis(self._shard, live[0])):
            source, entry_id = Source.LIVE, live.popleft()
        else:
            _, source, entry_id = heappop(copies)
        self.waiting[source] -= 1
        return source, entry_id
