"""Settling what has ended beside what is handled next: one write after the other, each of all that has ended by then.

What a write meets is raised to whoever waits for it, begins the next one, or looks whether it is done.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.exceptions import OutOfMemoryError

from runtime.backoff import Backoff
from runtime.metrics import ATTEMPTS, BURIED
from runtime.tasks import end
from stream.redis.client import names
from worker.consumer.fetch_plan import Source
from worker.group.heartbeat import Liveness
from worker.settle.invalid import Invalid
from worker.settle.settler import Copy, Settler

log = structlog.get_logger("processor")


class BatchDropped(Exception):  # noqa: N818 - named for what the loop must do
    """The batch in hand must not be settled: it stays pending, and whoever claims it handles it again."""


@dataclass(slots=True)
class Settlement:
    """What ends entries of one stream: ids to ack, copies to write."""

    acks: list[bytes] = field(default_factory=list)
    marks: list[bytes] = field(default_factory=list)
    """What the events among them that were handled are remembered by (worker.repeats)."""
    copies: list[Copy] = field(default_factory=list)
    invalid: list[Invalid] = field(default_factory=list)
    """Invalid payloads that no signature proves, for the record (worker.settle.invalid)."""


class Settling:
    """Settles what has ended for one group. ``backoff`` begins anew with each write that is done."""

    def __init__(self, group: str, settler: Settler, liveness: Liveness, backoff: Backoff, stop: asyncio.Event) -> None:
        self._group = group
        self._settler = settler
        self._liveness = liveness
        self._backoff = backoff
        self._stop = stop
        self._ended: defaultdict[Source, Settlement] = defaultdict(Settlement)
        self._writing: asyncio.Task[None] | None = None
        self.marks: frozenset[bytes] = frozenset()
        """Of what is being settled right now, and may be known to the server or not."""

    def of(self, source: Source) -> Settlement:
        """Return what the next write ends, to be added to."""
        return self._ended[source]

    async def write(self, generation: int) -> None:
        """Begin to write what has ended, if anything has, when the last write is done. Raises as ``written``."""
        if self._writing is not None and (self._ended or self._writing.done()):
            await self.written()
        if self._ended:
            ended, self._ended = self._ended, defaultdict(Settlement)
            self.marks = frozenset(mark for settlement in ended.values() for mark in settlement.marks)
            self._writing = asyncio.create_task(self._write(ended, generation))

    async def written(self, *, unless: asyncio.Future[Any] | None = None) -> None:
        """Wait until all is written that was begun, or until ``unless`` is done.

        Raises BatchDropped, or RedisError if it is unknown what is settled.
        """
        if self._writing is None:
            return
        if unless is not None:
            await asyncio.wait((self._writing, unless), return_when=asyncio.FIRST_COMPLETED)
            if not self._writing.done():
                return
        try:
            await self._writing
        finally:
            self._writing, self.marks = None, frozenset()

    async def drop(self) -> None:
        """Forget what has ended, and give up what is being written."""
        self._ended.clear()
        if self._writing is not None:
            await end([self._writing])
            if not self._writing.cancelled():
                self._writing.exception()  # looked at, so that asyncio does not complain
            self._writing, self.marks = None, frozenset()

    async def _write(self, ended: Mapping[Source, Settlement], generation: int) -> None:
        """Write it. A full server takes no copies: wait until it does."""
        for source, settlement in ended.items():
            if settlement.acks:
                self._heed(generation)
                await self._settler.ack(source, settlement.acks, settlement.marks)
                await self._liveness.suspects.clear(source, settlement.acks)
            if settlement.copies:
                await self._copy(source, settlement.copies, generation)
                await self._liveness.suspects.clear(source, [copy.entry_id for copy in settlement.copies])
                self._note_buried(settlement.copies)
            if settlement.invalid:
                self._heed(generation)
                await self._settler.record(source, settlement.invalid)
                await self._liveness.suspects.clear(source, [one.entry_id for one in settlement.invalid])
        self._backoff.reset()

    async def _copy(self, source: Source, copies: Sequence[Copy], generation: int) -> None:
        while True:
            self._heed(generation)
            try:
                await self._settler.copy(source, copies)
            except OutOfMemoryError as exc:
                log.warning("batch.unsettled", group=self._group, error=names(exc))
                await self._backoff.wait(self._stop)
                if self._stop.is_set():
                    raise BatchDropped from None
            else:
                return

    def _heed(self, generation: int) -> None:
        if self._liveness.late(generation):
            raise BatchDropped  # others may have it by now

    def _note_buried(self, copies: Sequence[Copy]) -> None:
        buried = [copy for copy in copies if copy.delay_seconds is None]
        note_attempts(self._group, (int(copy.fields[b"attempt"]) for copy in buried))
        reasons = Counter(copy.reason for copy in buried)
        for reason, count in reasons.items():
            BURIED.labels(self._group, reason).inc(count)
        if reasons:
            log.warning("batch.buried", group=self._group, entries=reasons.total(), reasons=counted(reasons))


def note_attempts(group: str, attempts: Iterable[int]) -> None:
    """Take down how many attempts events have had that are at their end now."""
    for attempt in attempts:
        if attempt > 1:
            ATTEMPTS.labels(group).observe(attempt)


def counted(counts: Counter[str]) -> str:
    """Return the counts as text for the log, the greatest first."""
    return " ".join(f"{name}:{count}" for name, count in counts.most_common())
