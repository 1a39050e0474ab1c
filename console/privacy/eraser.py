"""Walks all places: collects what belongs to a subject, counts it, and erases it.

Places that only name messages and entries come first, and the tables last: a run that was interrupted can find the rest
again. New copies of an entry appear in the places that it moves to, so these are walked again until nothing is new.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from console.privacy.audit import Audit
from console.privacy.files import ArchiveFiles, SpooledFiles
from console.privacy.in_flight import EntryRemover
from console.privacy.place import DataPlace, Unreachable
from console.privacy.places import NAMES
from console.privacy.redis_places import open_places
from console.privacy.selection import Record, Selection, Subject
from console.privacy.settings import PrivacySettings
from console.privacy.tables import Dimensions, Messages
from console.queries.shards import find_shards, name_lost, refuse_gaps
from stream.keys import Shard
from stream.redis.client import client
from stream.redis.cluster import AwayShard
from worker.retention.pages import raw_ranges
from worker.store.database import close_engine, open_engine
from worker.store.revision import check_revision

FIRST = frozenset(("pauses", "replay_jobs", "audit", "spool", "quarantine"))
MOVING = frozenset(("history", "delayed", "stream", "retry", "replay", "dead_letters", "invalid"))
"""The places between which workers move entries; they get entries from the first ones."""
ORDER = ("history", "delayed", "stream", "retry", "replay", "dead_letters", "invalid", "archive", "messages")
MOST_ROUNDS = 5
REPORT_SECONDS = 2.0

Report = Callable[[str], None]


@dataclass(slots=True)
class Erasure:
    """The result: how many records were found and erased in each place, and the reasons why some stay."""

    found: Counter[str] = field(default_factory=Counter)
    erased: Counter[str] = field(default_factory=Counter)
    unreachable: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON, with every place."""
        return {
            "found": {name: self.found[name] for name in NAMES},
            "erased": {name: self.erased[name] for name in NAMES},
            "unreachable": self.unreachable,
        }


class Eraser:
    """All places of one installation."""

    def __init__(
        self,
        server: Redis,
        shards: Sequence[Shard],
        others: Sequence[DataPlace],
        report: Report,
        away: Sequence[AwayShard] = (),
    ) -> None:
        self._server = server
        self._removers = {shard: EntryRemover(server, shard) for shard in shards}
        self._others = others
        """The places outside of Redis."""
        self.away = away
        """The shards of a cluster that do not answer, and whose places are missing."""
        self._report = report
        self._reported_at = time.monotonic()

    async def look(self, subject: Subject) -> Selection:
        """Collect the messages and entries of the subject. Raises CommandError if there are too many."""
        selection = Selection(subject)
        ignored: list[str] = []
        async for _, records in self._walk(await self._open_places(ignored), selection, ignored):
            for record in records:
                selection.add(record)
        selection.is_complete = True
        return selection

    async def find(self, selection: Selection, unreachable: list[str]) -> AsyncIterator[tuple[str, Record]]:
        """Yield all records of a complete selection with the names of their places."""
        async for place, records in self._walk(await self._open_places(unreachable), selection, unreachable):
            for record in records:
                yield record.place or place.name, record

    async def count(self, selection: Selection, unreachable: list[str]) -> Counter[str]:
        """Count the records of a complete selection by place."""
        return Counter([place async for place, _ in self.find(selection, unreachable)])

    async def erase(self, selection: Selection) -> Erasure:
        """Erase all records of a complete selection."""
        erasure = Erasure()
        places = await self._open_places(erasure.unreachable)
        await self._erase_in([place for place in places if place.name in FIRST], selection, erasure)
        for _ in range(MOST_ROUNDS):
            before = sum(erasure.found.values())
            await self._erase_in([place for place in places if place.name in MOVING], selection, erasure)
            if sum(erasure.found.values()) == before:
                break
            places = await self._open_places(erasure.unreachable, places)
        await self._erase_in([place for place in places if place.name not in FIRST | MOVING], selection, erasure)
        erasure.unreachable = list(dict.fromkeys(erasure.unreachable))
        return erasure

    async def _erase_in(self, places: Sequence[DataPlace], selection: Selection, erasure: Erasure) -> None:
        async for place, records in self._walk(places, selection, erasure.unreachable):
            if not records:
                continue
            erasure.found.update(record.place or place.name for record in records)
            for record in records:
                selection.add(record)  # it may have come after the look: its message is still to be erased
            try:
                erasure.erased.update(await place.erase(records, selection))
            except Unreachable as exc:
                erasure.erased[place.name] += exc.erased
                erasure.unreachable.append(str(exc))

    async def _walk(
        self, places: Sequence[DataPlace], selection: Selection, unreachable: list[str]
    ) -> AsyncIterator[tuple[DataPlace, Sequence[Record]]]:
        for place in places:
            try:
                async for records in place.find(selection):
                    self._show_progress(place)
                    yield place, records
            except Unreachable as exc:
                unreachable.append(str(exc))

    async def _open_places(self, unreachable: list[str], opened: Sequence[DataPlace] = ()) -> list[DataPlace]:
        """Open the places that exist now, and keep those that are open: a key may be new since the last walk."""
        places: list[DataPlace] = []
        for shard, remover in self._removers.items():
            of_shard, unknown = await open_places(self._server, shard, remover, opened)
            places += of_shard
            unreachable += (f"{key} is a key that this version does not know" for key in unknown)
        order = {name: number for number, name in enumerate(ORDER)}
        return sorted([*places, *self._others], key=lambda place: order.get(place.name, len(ORDER)))

    def _show_progress(self, place: DataPlace) -> None:
        now = time.monotonic()
        if now - self._reported_at >= REPORT_SECONDS:
            self._reported_at = now
            self._report(f"{place.name}: {place.seen:,} looked at")


@asynccontextmanager
async def open_eraser(settings: PrivacySettings, report: Report, *, is_partial: bool = False) -> AsyncIterator[Eraser]:
    """Open all places, or if it ``is_partial`` without the shards that do not answer.

    Raises CommandError if a shard does not answer, or if the tables are missing or have another revision, and
    DatabaseAway.
    """
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(raw_ranges(client(settings.redis_url)))
        shards, away = await find_shards(server, settings)
        if not is_partial:
            refuse_gaps(away)
        await stack.enter_async_context(name_lost(server, shards))
        places: list[DataPlace] = [Audit(settings.data / "console" / "console.db"), SpooledFiles(settings.data)]
        if settings.archive:
            known = [*shards, *(Shard(settings.stream, each.shard) for each in away)]
            places += [ArchiveFiles(settings.archive, shard) for shard in known]
        if settings.sqlite_file and not settings.sqlite_file.exists():
            report(f"no database at {settings.sqlite_file}: if workers write tables, set ACKSTREAM_DATABASE_URL")
        else:
            engine = open_engine(settings.database_url)
            stack.push_async_callback(close_engine, engine)
            await check_revision(engine)
            places += [Messages(engine), Dimensions(engine)]
        yield Eraser(server, shards, places, report, away)


def summarize(counts: Mapping[str, int]) -> str:
    """Return the places with a count, for a sentence."""
    return ", ".join(f"{counts[name]:,} in {name}" for name in NAMES if counts[name]) or "nothing"
