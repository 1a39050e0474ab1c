"""Poison entries: their handler kills the process. The tracker finds them among the entries of dead workers.

When a worker claims the entries of a dead worker, the claim script counts one crash for each. An entry with two such
claims is a suspect. A worker handles half of the suspects at a time, under one mark, while no other call of the group
runs in that worker; the mark ends with the calls. If the worker dies under a mark, only the marked half stays suspect:
each death halves the set. Only a death while an entry alone was marked counts against it; at MOST_DEATHS the worker
dead-letters it. An orderly stop counts nothing, and entries without suspicion need no mark. Redis's own delivery count
is not used, because it also rises for other reasons.

One hash that expires holds all of this. The worker deletes the record of an entry before it acks the entry, so a crash
leaves none of a handled entry. The record of an entry with a copy goes after the copy: its deaths must not be lost.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.sources import Source

SUSPECT_AFTER = 2
MOST_DEATHS = 3
KEPT_SECONDS = 24 * 3600
IDS_AT_ONCE = 1000

MARK = read_script(__file__, "mark.lua")


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """How often dead workers had an entry in flight, and how many died while this entry alone was marked."""

    claims: int
    deaths: int

    @property
    def is_suspect(self) -> bool:
        """Whether the entry needs a mark."""
        return self.claims >= SUSPECT_AFTER or self.deaths > 0

    @property
    def is_proven(self) -> bool:
        """Whether to dead-letter the entry."""
        return self.deaths >= MOST_DEATHS


NONE = CrashRecord(0, 0)


class PoisonTracker:
    """The crash records of the entries that this worker has in flight. Each coroutine raises RedisError."""

    def __init__(self, group: GroupRef) -> None:
        self._server = group.server
        self._key = group.poison
        self._mark = group.server.register_script(MARK)
        self._records: dict[tuple[Source, bytes], CrashRecord] = {}

    def note_claim(self, source: Source, entry_ids: Sequence[bytes], counts: Sequence[int]) -> None:
        """Store the counts from the reply of the claim script, two for each entry."""
        pairs = zip(entry_ids, counts[::2], counts[1::2], strict=True)
        self._records |= {
            (source, entry_id): CrashRecord(claims, deaths) for entry_id, claims, deaths in pairs if claims or deaths
        }

    @property
    def has_any(self) -> bool:
        """Whether any entry in flight has a crash record."""
        return bool(self._records)

    def find(self, source: Source, entry_id: bytes) -> CrashRecord:
        """Return the crash record of an entry in flight."""
        return self._records.get((source, entry_id), NONE)

    async def mark(self, consumer: str, entries: Iterable[tuple[Source, bytes]]) -> None:
        """Mark the entries that this consumer handles next, with no other call of the group."""
        marked = b"".join(b" %b " % entry_name(*key) for key in entries)
        await self._mark(keys=[self._key], args=[consumer, marked, KEPT_SECONDS * 1000])

    async def unmark(self, consumer: str) -> None:
        """Remove the mark: the calls of the marked entries have ended."""
        await self._server.hdel(self._key, f"mark:{consumer}")

    async def clear(self, source: Source, entry_ids: Sequence[bytes]) -> None:
        """Delete the crash records of entries that this worker settles."""
        if not self._records:
            return
        suspects = [entry_id for entry_id in entry_ids if self._records.pop((source, entry_id), None)]
        names = [entry_name(source, entry_id) for entry_id in suspects]
        for start in range(0, len(names), IDS_AT_ONCE):
            batch = names[start : start + IDS_AT_ONCE]
            fields: Any = [*batch, *(b"deaths:" + name for name in batch)]
            await self._server.hdel(self._key, *fields)

    def forget(self) -> None:
        """Forget the entries in flight, because this worker has dropped them."""
        self._records.clear()


def entry_name(source: Source, entry_id: bytes) -> bytes:
    """Return an entry's name in the hash."""
    return b"%b:%b" % (source.encode(), entry_id)
