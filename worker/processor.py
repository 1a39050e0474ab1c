"""What becomes of a batch: the only place that decides between ack, another try and dead letter."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.exceptions import OutOfMemoryError

from stream.backoff import Backoff
from stream.connect import names
from stream.metrics import ATTEMPTS, BURIED, HANDLE_SECONDS, HANDLED, HANDLER_FAILURES, PARKED, REPEATS
from worker.batch import Batch
from worker.call import Call
from worker.calls import Calls
from worker.gate import Gate
from worker.liveness import Liveness
from worker.pause import Pause
from worker.repeats import Repeats, mark
from worker.schedule import Schedule
from worker.settle import Copy, Settler
from worker.status import StatusEvent
from worker.suspects import Suspicion
from worker.turns import Source
from worker.verdict import judge, kind

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


class Processor:
    """Takes the batches of one group through parse, handle and settle, in this order."""

    def __init__(
        self,
        group: str,
        calls: Calls,
        schedule: Schedule,
        settler: Settler,
        liveness: Liveness,
        pause: Pause,
        stop: asyncio.Event,
        repeats: Repeats | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._group = group
        self._calls = calls
        self._schedule = schedule
        self._settler = settler
        self._liveness = liveness
        self._stop = stop
        self._repeats = repeats
        self._chance = chance
        self._generation = 0
        self._closed = False
        self._backoff = Backoff()
        self._gate = Gate(group, calls, pause, self._backoff, stop)
        self._ended: defaultdict[Source, Settlement] = defaultdict(Settlement)
        self._handled = HANDLED.labels(group)
        self._seconds = HANDLE_SECONDS.labels(group)

    @property
    def hangs(self) -> bool:
        """Whether the handler goes on although its time was over and it was cancelled."""
        return self._calls.hangs

    def in_hand(self, batches: Iterable[Batch]) -> Counter[Source]:
        """Count the entries of each stream that are in hand once these batches are, but not settled."""
        counts = self._calls.count()
        for batch in batches:
            counts[batch.source] += len(batch.entries) + len(batch.gone) + len(batch.invalid)
        return counts

    async def process(self, batches: Iterable[Batch], reading: asyncio.Future[Any]) -> None:
        """Handle and settle. Raises BatchDropped, or RedisError if it is unknown what is settled.

        Returns when all is settled; or when ``reading`` is done and there is room to begin what it has read, and then
        what is slow goes on beside that.
        """
        for batch in batches:
            await self._admit(batch)
        while True:
            await self._heed()
            if self._calls.busy:
                await self._calls.step(reading)
            await self._settle()
            if self._closed or not self._calls.busy:
                return
            if reading.done() and (self._calls.room or self._calls.takes_more):
                return

    async def finish(self) -> None:
        """Begin nothing more, and settle what is being handled. Raises as ``process``."""
        self.close()
        while self._calls.busy:
            await self._calls.step()
            await self._settle()

    def close(self) -> None:
        """Begin nothing more: what has not begun stays pending, and others claim it."""
        self._closed = True
        self._calls.close()

    async def drop(self) -> None:
        """Forget what is in hand: it stays pending, and whoever claims it handles it again."""
        self._ended.clear()
        self._liveness.suspects.forget()
        await self._calls.cancel()

    async def _admit(self, batch: Batch) -> None:
        if batch.generation != self._generation and self._calls.busy:
            raise BatchDropped  # others may have by now what is being handled
        self._generation = batch.generation
        if self._closed:
            return
        if batch.gone or batch.invalid:
            ended = self._ended[batch.source]
            ended.acks += batch.gone
            ended.copies += batch.invalid
        if self._repeats is not None and batch.source is Source.LIVE and batch.events:
            batch = await self._new(self._repeats, batch)
        if self._liveness.suspects.any_in_hand:
            alone = [one for one, (entry_id, _) in enumerate(batch.entries) if self._suspicion(batch, entry_id).alone]
            self._admit_alone(batch, alone)
            batch = batch.without(alone)
        self._calls.put(Call(batch.source, batch.entries, batch.events))

    async def _new(self, repeats: Repeats, batch: Batch) -> Batch:
        """Return the batch without what was handled before, and have that settled."""
        places = await repeats.among(batch.events)
        if not places:
            return batch
        self._ended[batch.source].acks += [batch.entries[place][0] for place in places]
        REPEATS.labels(self._group).inc(len(places))
        return batch.without(places)

    def _suspicion(self, batch: Batch, entry_id: bytes) -> Suspicion:
        return self._liveness.suspects.of(batch.source, entry_id)

    def _admit_alone(self, batch: Batch, places: Sequence[int]) -> None:
        """Have these entries handled one at a time, the worst last; bury those of which enough workers have died."""
        found = [(self._suspicion(batch, batch.entries[place][0]), place) for place in places]
        for suspicion, place in sorted(found, key=lambda one: one[0].deaths):
            entry, event = batch.entries[place], batch.events[place]
            if suspicion.proved:
                error = f"killer: {suspicion.deaths} workers died while they had it alone in hand"
                copy = Copy.of(*entry, origin=event.entry, attempt=event.attempt, error=error)
                self._ended[batch.source].copies.append(copy)
            else:
                self._calls.put(Call(batch.source, [entry], [event], solo=True))

    async def _heed(self) -> None:
        """Wait for the target, or keep what is in hand while the group is paused; a stop waits for neither."""
        if await self._gate.heed():
            return
        if self._calls.busy and self._liveness.late(self._generation):
            raise BatchDropped
        if self._stop.is_set():
            self.close()

    async def _settle(self) -> None:
        """End what has been handled, or failed. A full server takes no copies: wait until it does."""
        self._judge(self._calls.take())
        while self._ended:
            if self._liveness.late(self._generation):
                raise BatchDropped
            try:
                await self._write()
            except OutOfMemoryError as exc:
                log.warning("batch.unsettled", group=self._group, error=names(exc))
                await self._backoff.wait(self._stop)
                if self._stop.is_set():
                    raise BatchDropped from None
            else:
                self._backoff.reset()

    async def _write(self) -> None:
        for source, ended in list(self._ended.items()):
            if ended.acks:
                await self._settler.ack(source, ended.acks, ended.marks)
                await self._liveness.suspects.clear(source, ended.acks)
                ended.acks.clear()
                ended.marks.clear()
            if ended.copies:
                await self._settler.copy(source, ended.copies)
                await self._liveness.suspects.clear(source, [copy.entry_id for copy in ended.copies])
                self._note_buried(ended.copies)
            del self._ended[source]

    def _judge(self, finished: Sequence[Call]) -> None:
        """Sort the calls that have ended into what is to be acked, parked and buried."""
        failed: list[Call] = []
        for call in finished:
            self._seconds.observe(call.seconds)
            if call.error is None:
                self._ended[call.source].acks += [entry_id for entry_id, _ in call.entries]
                if self._repeats is not None:
                    self._ended[call.source].marks += map(mark, call.events)
                self._handled.inc(len(call.events))
                if call.source is Source.RETRY:
                    self._note_attempts(event.attempt for event in call.events)
            else:
                failed.append(call)
        if failed:
            self._fail(failed)

    def _fail(self, failed: Sequence[Call]) -> None:
        kinds: Counter[str] = Counter()
        copies: list[Copy] = []
        for call in failed:
            assert call.error is not None  # noqa: S101 - that is why it is here
            kinds[kind(call.error)] += len(call.events)
            made = [self._copy(*one, call.error) for one in zip(call.entries, call.events, strict=True)]
            self._ended[call.source].copies += made
            copies += made
        for name, count in kinds.items():
            HANDLER_FAILURES.labels(self._group, name).inc(count)
        parked = sum(copy.delay_seconds is not None for copy in copies)
        PARKED.labels(self._group).inc(parked)
        log.warning(
            "batch.failed",
            group=self._group,
            events=len(copies),
            errors=_counted(kinds),
            parked=parked,
            first=copies[0].fields[b"origin"].decode(),
        )

    def _copy(self, entry: tuple[bytes, dict[bytes, bytes]], event: StatusEvent, error: BaseException) -> Copy:
        verdict = judge(error, event.attempt, self._schedule, self._chance())
        return Copy.of(
            *entry,
            origin=event.entry,
            attempt=event.attempt,
            error=verdict.error,
            delay_seconds=verdict.delay_seconds,
        )

    def _note_buried(self, copies: Sequence[Copy]) -> None:
        buried = [copy for copy in copies if copy.delay_seconds is None]
        self._note_attempts(int(copy.fields[b"attempt"]) for copy in buried)
        reasons = Counter(copy.reason for copy in buried)
        for reason, count in reasons.items():
            BURIED.labels(self._group, reason).inc(count)
        if reasons:
            log.warning("batch.buried", group=self._group, entries=reasons.total(), reasons=_counted(reasons))

    def _note_attempts(self, attempts: Iterable[int]) -> None:
        for attempt in attempts:
            if attempt > 1:
                ATTEMPTS.labels(self._group).observe(attempt)


def _counted(counts: Counter[str]) -> str:
    return " ".join(f"{name}:{count}" for name, count in counts.most_common())
