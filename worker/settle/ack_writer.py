"""Settles finished entries while the worker handles the next ones: one write at a time, each with all finished entries.

The caller that waits for a write, or starts the next one, gets its error.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import structlog

from runtime.tasks import cancel_and_wait
from stream.entry import EntryId
from worker.group.heartbeat import Heartbeat
from worker.group.poison import PoisonTracker
from worker.metrics import ATTEMPTS, DEAD_LETTERS, DELAYED, ORDER_OVERLAPS
from worker.order.gate import MessageGate
from worker.settle.copies import Copy
from worker.settle.history import EntryOutcome, History
from worker.settle.invalid import UnverifiedPayload
from worker.settle.settler import Settler
from worker.sources import Source

log = structlog.get_logger("settle")


class BatchDropped(Exception):  # noqa: N818 - named for what the loop must do
    """The entries in flight must not be settled: they stay pending, and another worker claims and handles them."""


@dataclass(slots=True)
class Settlement:
    """The settlements of one stream for one write: ids to ack, copies and records to write."""

    acks: list[bytes] = field(default_factory=list)
    marks: list[bytes] = field(default_factory=list)
    """The dedup marks of the handled events (worker.settle.dedup)."""
    copies: list[Copy] = field(default_factory=list)
    outcomes: list[EntryOutcome] = field(default_factory=list)
    """The outcomes of acked entries that were not handled at their first attempt (worker.settle.history)."""
    invalid: list[UnverifiedPayload] = field(default_factory=list)
    """Invalid payloads without a valid signature, for the record (worker.settle.invalid)."""


class AckWriter:
    """Settles the finished entries of one group on one shard.

    Awaits ``measure`` after copies, because they add to the backlog of the shard. It must not ask other shards: each
    settlement would wait for a node that hangs.
    """

    def __init__(
        self,
        group: str,
        settler: Settler,
        history: History,
        heartbeat: Heartbeat,
        poison: PoisonTracker,
        measure: Callable[[], Awaitable[None]],
        latest_success: Callable[[], float | None] = lambda: None,
        gate: MessageGate | None = None,
    ) -> None:
        self._group = group
        self._settler = settler
        self._history = history
        self._heartbeat = heartbeat
        self._poison = poison
        self._measure = measure
        self._latest_success = latest_success
        self._gate = gate
        self._finished: defaultdict[Source, Settlement] = defaultdict(Settlement)
        self._writing: asyncio.Task[None] | None = None
        self._delayed = DELAYED.labels(group)
        self.marks: frozenset[bytes] = frozenset()
        """The marks of the write that is under way: the server may or may not know them yet."""

    def next_settlement(self, source: Source) -> Settlement:
        """Return the settlement of the next write, to which callers add entries."""
        return self._finished[source]

    async def write(self, generation: int) -> None:
        """Start to settle the finished entries, if any, once the last write is done.

        Raises as ``wait_until_written``.
        """
        if self._writing is not None and (self._finished or self._writing.done()):
            await self.wait_until_written()
        if self._finished:
            finished, self._finished = self._finished, defaultdict(Settlement)
            self.marks = frozenset(mark for settlement in finished.values() for mark in settlement.marks)
            self._writing = asyncio.create_task(self._write(finished, generation))

    async def wait_until_written(self, *, unless: asyncio.Future[Any] | None = None) -> None:
        """Wait until the current write is done, or until ``unless`` is done.

        Raises BatchDropped; and RedisError, after which it is unknown which entries are settled.
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
        """Forget the finished entries, and cancel the write that is under way."""
        self._finished.clear()
        if self._writing is not None:
            await cancel_and_wait([self._writing])
            if not self._writing.cancelled():
                self._writing.exception()  # marks it as retrieved: asyncio would log it
            self._writing, self.marks = None, frozenset()

    async def _write(self, finished: Mapping[Source, Settlement], generation: int) -> None:
        for source, settlement in finished.items():
            if settlement.acks:
                self._require_current(generation, settlement.acks)
                await self._poison.clear(source, settlement.acks)  # first: a crash after the ack would leave the record
                await self._settler.ack(source, settlement.acks, settlement.marks)
                if self._gate is not None:
                    self._gate.settle(source, settlement.acks)
                await self._history.append(settlement.outcomes)
            if settlement.copies:
                self._require_current(generation, settlement.copies)
                await self._copy(source, settlement.copies)
                await self._poison.clear(source, [copy.entry_id for copy in settlement.copies])
            if settlement.invalid:
                self._require_current(generation)
                await self._poison.clear(source, [payload.entry_id for payload in settlement.invalid])
                await self._settler.record(source, settlement.invalid)

    async def _copy(self, source: Source, copies: Sequence[Copy]) -> None:
        written = await self._settler.copy(source, copies, self._latest_success())
        if self._gate is not None:
            self._free_lanes(self._gate, source, copies, written.delayed)
        await self._measure()
        self._delayed.inc(len(written.delayed))
        observe_attempts(self._group, (copy.attempts for copy in written.dead))
        await self._history.append([copy.outcome for copy in written.dead])
        reasons = Counter(copy.reason for copy in written.dead)
        for reason, count in reasons.items():
            DEAD_LETTERS.labels(self._group, reason).inc(count)
        if reasons:
            log.warning(
                "entries.dead_lettered", group=self._group, entries=len(written.dead), reasons=format_counts(reasons)
            )
        if written.delayed:
            log.info("entries.delayed", group=self._group, entries=len(written.delayed))

    @staticmethod
    def _free_lanes(gate: MessageGate, source: Source, copies: Sequence[Copy], delayed: Iterable[Copy]) -> None:
        """Close the lanes of delayed events, and free those of the others."""
        for copy in delayed:
            due = time.monotonic() + (copy.delay_seconds or 0.0)
            gate.delay(source, copy.entry_id, EntryId.from_text(copy.fields[b"origin"].decode()), due)
        gate.settle(source, [copy.entry_id for copy in copies])

    def _require_current(self, generation: int, entries: Sized = ()) -> None:
        if self._heartbeat.is_late(generation):
            if self._gate is not None:
                ORDER_OVERLAPS.labels(self._group).inc(len(entries))
            raise BatchDropped  # another worker may have the entries by now


def observe_attempts(group: str, attempts: Iterable[int]) -> None:
    """Observe the attempts of events that are settled for good."""
    for attempt in attempts:
        if attempt > 1:
            ATTEMPTS.labels(group).observe(attempt)


def format_counts(counts: Counter[str]) -> str:
    """Return counts as text for the log, the largest first."""
    return " ".join(f"{name}:{count}" for name, count in counts.most_common())
