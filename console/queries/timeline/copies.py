"""Finds the copies of a message's entries in a group: delayed, due, replayed and dead-lettered ones.

No index leads from a message to its copies, so each place is searched from one end, up to a limit. The server searches
in small steps, because it does nothing else during a step.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from redis.asyncio import Redis

from stream.entry import EntryId, fields_from_flat, read_due_ms
from stream.keys import Shard
from stream.redis.scripts import read_script
from worker.events.event import StatusEvent
from worker.events.stored import parse_stored
from worker.group.group_ref import GroupRef
from worker.settle.history import MOST_OUTCOMES, EntryOutcome

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
        return parse_stored(self.fields, self.origin)


@dataclass(slots=True)
class EntryCopies:
    """The copies in one group, and the places that were not searched to their end."""

    found: list[EntryCopy] = field(default_factory=list)
    unsearched: list[CopyPlace] = field(default_factory=list)


class CopySearch:
    """Searches one group for copies of some entries, or with the id of their message."""

    def __init__(self, group: GroupRef, message_uuid: str, origins: Collection[str]) -> None:
        self._group = group
        self._message_uuid = message_uuid
        self._origins = frozenset(origins)
        self._texts = [message_uuid, *sorted(origins)]
        self._find_delayed = group.server.register_script(FIND_DELAYED)

    async def run(self, since_ms: int, dead_ms: Sequence[int] = ()) -> EntryCopies:
        """Return the copies. Raises RedisError.

        Dead letters are searched from ``since_ms``, the time of the first entry, and around the times at which the
        history notes one.
        """
        group, copies = self._group, EntryCopies()
        await self._add_delayed(copies)
        for place, key, first_ms in (
            (CopyPlace.RETRY, group.retry, 0),
            (CopyPlace.REPLAY, group.replay, 0),
            (CopyPlace.DEAD, group.dead, since_ms),
        ):
            if await self._add_entries(copies, place, key, str(first_ms)):
                copies.unsearched.append(place)
        for ms in dead_ms:
            await self._add_entries(copies, CopyPlace.DEAD, group.dead, str(max(ms - NEAR_MS, 0)), str(ms))
        return copies

    async def _add_delayed(self, copies: EntryCopies) -> None:
        for start in range(0, MOST_SEARCHED, STEP):
            args: list[str | int] = [start, STEP, *self._texts]
            searched, *matches = await self._find_delayed(keys=[self._group.delayed], args=args)
            for due_ms, flat in matches:
                self._add(
                    copies,
                    EntryCopy(CopyPlace.DELAYED, None, read_due_ms(due_ms), fields_from_flat(flat)),
                )
            if searched < STEP:
                return
        copies.unsearched.append(CopyPlace.DELAYED)

    async def _add_entries(self, copies: EntryCopies, place: CopyPlace, key: str, first: str, last: str = "+") -> bool:
        matches, is_cut = await search_stream(self._group.server, self._group.shard, key, self._texts, first, last)
        for entry_id, fields in matches.items():
            self._add(copies, EntryCopy(place, entry_id, entry_id.ms, fields))
        return is_cut

    def _add(self, copies: EntryCopies, copy: EntryCopy) -> None:
        event = copy.parse_event()
        is_of_message = event is not None and event.message_uuid == self._message_uuid
        if (copy.origin in self._origins or is_of_message) and copy not in copies.found:
            copies.found.append(copy)


async def find_outcomes(group: GroupRef, origins: Collection[str]) -> list[tuple[int, EntryOutcome]]:
    """Return the outcomes of these entries in the history of the group, oldest first, each with its time in ms.

    Raises RedisError.
    """
    if not origins:
        return []
    first = str(min(EntryId.from_text(origin).ms for origin in origins))
    entries, _ = await search_stream(
        group.server, group.shard, group.history, sorted(origins), first, most=2 * MOST_OUTCOMES
    )
    outcomes: list[tuple[int, EntryOutcome]] = []
    for entry_id, fields in entries.items():
        with suppress(ValueError, KeyError):  # an entry that no worker has written
            outcomes.append((entry_id.ms, EntryOutcome.from_fields(fields)))
    return [(ms, outcome) for ms, outcome in outcomes if outcome.origin in origins]


async def search_stream(
    server: Redis,
    shard: Shard,
    key: str,
    texts: Sequence[str],
    first: str,
    last: str = "+",
    most: int | None = None,
) -> tuple[dict[EntryId, Mapping[bytes, bytes]], bool]:
    """Return the entries whose origin or payload has one of the texts, and whether the search ended early.

    It ends after ``most`` entries, by default after MOST_SEARCHED. Raises RedisError.
    """
    find = server.register_script(FIND_COPIES)
    entries: dict[EntryId, Mapping[bytes, bytes]] = {}
    for _ in range(0, MOST_SEARCHED if most is None else most, STEP):
        args: list[str | int] = [first, last, STEP, *texts]
        searched, last_id, *matches = await find(keys=[key], args=args)
        entries |= {EntryId.from_redis(shard.number, entry_id): fields_from_flat(flat) for entry_id, flat in matches}
        if searched < STEP:
            return entries, False
        first = f"({last_id.decode()}"
    return entries, True
