"""Poison entries: their handler kills the process. Finds the one among the entries that dead workers had in flight.

A worker that claims entries from a dead one counts that for each of them, in the script that claims. An entry that was
claimed so twice is a suspect. Half of the suspects are handled at a time, marked together, while nothing else of the
group runs in that worker; the mark ends with their calls. If the worker dies under a mark, the marked half is suspect
again and the others are not: so the set is halved at each death. Only a death under a mark of its own speaks against an
entry; at MOST_DEATHS it is dead-lettered. An orderly stop counts for nothing, nothing is marked on the normal path, and
Redis's own delivery count is not asked: it rises for other reasons too.

All is kept in one hash that expires, so what is left of entries that are gone goes as well.
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
    """How often an entry was claimed from dead workers, and how many of them died while it alone was marked."""

    claims: int
    deaths: int

    @property
    def is_suspect(self) -> bool:
        """Whether it has to be handled under a mark."""
        return self.claims >= SUSPECT_AFTER or self.deaths > 0

    @property
    def is_proven(self) -> bool:
        """Whether it has to be given up."""
        return self.deaths >= MOST_DEATHS


NONE = CrashRecord(0, 0)


class PoisonTracker:
    """The suspects of one group that this worker has in flight. Every coroutine raises RedisError."""

    def __init__(self, group: GroupRef) -> None:
        self._server = group.server
        self._key = group.poison
        self._mark = group.server.register_script(MARK)
        self._known: dict[tuple[Source, bytes], CrashRecord] = {}

    def note_claim(self, source: Source, entry_ids: Sequence[bytes], counts: Sequence[int]) -> None:
        """Take in the counts, two for each entry, that the claim script gave."""
        pairs = zip(entry_ids, counts[::2], counts[1::2], strict=True)
        self._known |= {(source, one): CrashRecord(claims, deaths) for one, claims, deaths in pairs if claims or deaths}

    @property
    def has_any(self) -> bool:
        """Whether anything speaks against any entry that is in flight."""
        return bool(self._known)

    def find(self, source: Source, entry_id: bytes) -> CrashRecord:
        """Return what speaks against an entry that is in flight."""
        return self._known.get((source, entry_id), NONE)

    async def mark(self, consumer: str, entries: Iterable[tuple[Source, bytes]]) -> None:
        """Note that this consumer is about to handle these entries, and nothing else."""
        marked = b"".join(b" %b " % entry_name(*one) for one in entries)
        await self._mark(keys=[self._key], args=[consumer, marked, KEPT_SECONDS * 1000])

    async def unmark(self, consumer: str) -> None:
        """Note that the calls of the marked entries have ended."""
        await self._server.hdel(self._key, f"mark:{consumer}")

    async def clear(self, source: Source, entry_ids: Sequence[bytes]) -> None:
        """Forget entries that are settled."""
        known = [one for one in entry_ids if self._known.pop((source, one), None)] if self._known else []
        names = [entry_name(source, one) for one in known]
        for start in range(0, len(names), IDS_AT_ONCE):
            some = names[start : start + IDS_AT_ONCE]
            fields: Any = [*some, *(b"deaths:" + one for one in some)]
            await self._server.hdel(self._key, *fields)

    def forget(self) -> None:
        """Forget the entries in flight, for this worker has dropped them."""
        self._known.clear()


def entry_name(source: Source, entry_id: bytes) -> bytes:
    """Return an entry's name in the hash."""
    return b"%b:%b" % (source.encode(), entry_id)
