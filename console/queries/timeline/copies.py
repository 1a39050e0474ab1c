"""Finds the copies of a message's entries in a group: delayed, due, replayed and dead-lettered ones.

No index leads from a message to its copies, so each place is searched from one end, up to a limit. The server searches
in small steps, because it does nothing else during a step.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from stream.entry import Entry, EntryId, InvalidEntry, fields_from_flat
from stream.redis.scripts import read_script
from worker.events.event import InvalidStatus, StatusEvent
from worker.events.vonage import parse
from worker.group.group_ref import GroupRef

STEP = 250
MOST_SEARCHED = 5000
"""At most this many copies of each place and group are searched."""
NEAR_MS = 10_000
"""The history notes a dead letter at most this long after it was written."""

FIND_DELAYED = read_script(__file__, "find_delayed.lua")
FIND_COPIES = read_script(__file__, "find_copies.lua")


class CopyPlace(StrEnum):
    """The place of a copy."""

    DELAYED = "delayed"
    RETRY = "retry"
    """The delay is over: the copy waits for a worker, or a worker has it."""
    REPLAY = "replay"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class EntryCopy:
    """A copy of an entry in a group. ``ms`` is the time at which it is due, or at which it came to its stream."""

    place: CopyPlace
    id: EntryId | None
    ms: int
    fields: Mapping[bytes, bytes]

    @property
    def origin(self) -> str:
        """The entry that this is a copy of, as ``shard/ms-seq``."""
        return self.text(b"origin")

    def text(self, name: bytes) -> str:
        """Return a field as text; empty if the copy does not have it."""
        return self.fields.get(name, b"").decode(errors="replace")

    def parse_event(self) -> StatusEvent | None:
        """Return the event of the payload; None if it is invalid."""
        try:
            return parse(Entry.from_fields(self.fields), self.origin)
        except (InvalidEntry, InvalidStatus):
            return None


@dataclass(slots=True)
class EntryCopies:
    """The copies in one group, and the places that were not searched to their end."""

    found: list[EntryCopy] = field(default_factory=list)
    unsearched: list[CopyPlace] = field(default_factory=list)


class CopySearch:
    """Searches one group for copies of some entries, or with the id of their message."""

    def __init__(self, group: GroupRef, message_uuid: str, origins: Collection[str]) -> None:
        self._shard = group.shard.number
        self._message_uuid = message_uuid
        self._origins = frozenset(origins)
        self._texts = [message_uuid, *sorted(origins)]
        self._delayed = group.delayed
        self._streams = {CopyPlace.RETRY: group.retry, CopyPlace.REPLAY: group.replay, CopyPlace.DEAD: group.dead}
        self._find_delayed = group.server.register_script(FIND_DELAYED)
        self._find_copies = group.server.register_script(FIND_COPIES)

    async def run(self, since_ms: int, dead_ms: Sequence[int] = ()) -> EntryCopies:
        """Return the copies. Raises RedisError.

        Dead letters are searched from ``since_ms``, the time of the first entry, and around the times at which the
        history notes one.
        """
        copies = EntryCopies()
        async for copy in self._search_delayed(copies):
            copies.found.append(copy)
        spans: list[tuple[CopyPlace, int, int | None]] = [
            (CopyPlace.RETRY, 0, None),
            (CopyPlace.REPLAY, 0, None),
            (CopyPlace.DEAD, since_ms, None),
        ]
        spans += [(CopyPlace.DEAD, max(ms - NEAR_MS, 0), ms + 1) for ms in dead_ms]
        ids: set[tuple[CopyPlace, EntryId | None]] = set()
        for place, first_ms, last_ms in spans:
            async for copy in self._search_stream(place, first_ms, last_ms, copies):
                if (place, copy.id) not in ids:
                    copies.found.append(copy)
                ids.add((place, copy.id))
        return copies

    async def _search_delayed(self, copies: EntryCopies) -> AsyncIterator[EntryCopy]:
        for start in range(0, MOST_SEARCHED, STEP):
            searched, *matches = await self._find_delayed(keys=[self._delayed], args=[start, STEP, *self._texts])
            for due_ms, flat in matches:
                copy = EntryCopy(CopyPlace.DELAYED, None, int(float(due_ms)), fields_from_flat(flat))
                if self._is_wanted(copy):
                    yield copy
            if searched < STEP:
                return
        copies.unsearched.append(CopyPlace.DELAYED)

    async def _search_stream(
        self, place: CopyPlace, first_ms: int, last_ms: int | None, copies: EntryCopies
    ) -> AsyncIterator[EntryCopy]:
        first, last = str(first_ms), "+" if last_ms is None else str(last_ms)
        for _ in range(0, MOST_SEARCHED, STEP):
            args: list[str | int] = [first, last, STEP, *self._texts]
            searched, last_id, *matches = await self._find_copies(keys=[self._streams[place]], args=args)
            for copy_id, flat in matches:
                entry_id = EntryId.from_redis(self._shard, copy_id)
                copy = EntryCopy(place, entry_id, entry_id.ms, fields_from_flat(flat))
                if self._is_wanted(copy):
                    yield copy
            if searched < STEP:
                return
            first = f"({last_id.decode()}"
        if last_ms is None:
            copies.unsearched.append(place)

    def _is_wanted(self, copy: EntryCopy) -> bool:
        if copy.origin in self._origins:
            return True
        event = copy.parse_event()
        return event is not None and event.message_uuid == self._message_uuid
