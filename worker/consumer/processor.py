"""What becomes of a batch: the only place that decides between ack, another try and dead letter."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from runtime.backoff import Backoff
from runtime.metrics import FILTERED, HANDLE_SECONDS, HANDLED, HANDLER_FAILURES, PARKED, REPEATS
from stream.entry import named
from worker.consumer.batch import Batch
from worker.consumer.fetch_plan import Source
from worker.dispatch.call import Call
from worker.dispatch.dispatcher import Calls
from worker.dispatch.gate import Gate
from worker.dispatch.pause import Pause
from worker.events.event import StatusEvent
from worker.group.heartbeat import Liveness
from worker.group.poison import Suspicion
from worker.settle.ack_writer import BatchDropped, Settling, counted, note_attempts
from worker.settle.dedup import Repeats, mark
from worker.settle.retry_policy import judge, kind
from worker.settle.schedule import Schedule
from worker.settle.settler import Copy, Settler

log = structlog.get_logger("processor")


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
        accepts: Callable[[StatusEvent], bool] | None = None,
    ) -> None:
        self._group = group
        self._calls = calls
        self._schedule = schedule
        self._liveness = liveness
        self._stop = stop
        self._repeats = repeats
        self._chance = chance
        self._accepts = accepts
        self._generation = 0
        self._closed = False
        backoff = Backoff()
        self._gate = Gate(group, calls, pause, backoff, stop)
        self._settling = Settling(group, settler, liveness, backoff, stop)
        self._handled = HANDLED.labels(group)
        self._seconds = HANDLE_SECONDS.labels(group)

    @property
    def hangs(self) -> bool:
        """Whether the handler goes on although its time was over and it was cancelled."""
        return self._calls.hangs

    async def in_hand(self, batches: Iterable[Batch]) -> Counter[Source]:
        """Count the entries of each stream that are in hand once these batches are, but not settled.

        Raises as ``process``.
        """
        await self._settling.written()
        counts = self._calls.count()
        for batch in batches:
            counts[batch.source] += len(batch.entries) + len(batch.gone) + len(batch.invalid) + len(batch.unproved)
        return counts

    async def process(self, batches: Iterable[Batch], reading: asyncio.Future[Any]) -> None:
        """Handle and settle. Raises BatchDropped, or RedisError if it is unknown what is settled.

        Returns when all is settled; or when ``reading`` is done and there is room to begin what it has read, and then
        what is slow goes on beside that, and so does the settling.
        """
        for batch in batches:
            await self._admit(batch)
        while True:
            await self._heed()
            if self._calls.busy:
                await self._calls.step(reading)
            await self._settle()
            if self._closed or not self._calls.busy:
                await self._settling.written(unless=reading)
                return
            if reading.done() and (self._calls.room or self._calls.takes_more):
                return

    async def finish(self) -> None:
        """Begin nothing more, and settle what is being handled. Raises as ``process``."""
        self.close()
        while self._calls.busy:
            await self._calls.step()
            await self._settle()
        await self._settling.written()

    def close(self) -> None:
        """Begin nothing more: what has not begun stays pending, and others claim it."""
        self._closed = True
        self._calls.close()

    async def drop(self) -> None:
        """Forget what is in hand: it stays pending, and whoever claims it handles it again."""
        await self._settling.drop()
        self._liveness.suspects.forget()
        await self._calls.cancel()

    async def _admit(self, batch: Batch) -> None:
        if batch.generation != self._generation and self._calls.busy:
            raise BatchDropped  # others may have by now what is being handled
        self._generation = batch.generation
        if self._closed:
            return
        if batch.gone or batch.invalid or batch.unproved:
            ended = self._settling.of(batch.source)
            ended.acks += batch.gone
            ended.copies += batch.invalid
            ended.invalid += batch.unproved
        if self._accepts is not None:
            batch = self._filter(batch, self._accepts)
        if self._repeats is not None and batch.source is Source.LIVE and batch.events:
            batch = await self._new(self._repeats, batch)
        if self._liveness.suspects.any_in_hand:
            alone = [one for one, (entry_id, _) in enumerate(batch.entries) if self._suspicion(batch, entry_id).alone]
            self._admit_alone(batch, alone)
            batch = batch.without(alone)
        self._calls.put(Call(batch.source, batch.entries, batch.events))

    def _filter(self, batch: Batch, accepts: Callable[[StatusEvent], bool]) -> Batch:
        """Return the batch without the events that its handler is not meant for, and have those settled."""
        places = [place for place, event in enumerate(batch.events) if not accepts(event)]
        if not places:
            return batch
        self._settling.of(batch.source).acks += [batch.entries[place][0] for place in places]
        FILTERED.labels(self._group).inc(len(places))
        return batch.without(places)

    async def _new(self, repeats: Repeats, batch: Batch) -> Batch:
        """Return the batch without what was handled before, and have that settled."""
        places = await repeats.among(batch.events, self._settling.marks)
        if not places:
            return batch
        self._settling.of(batch.source).acks += [batch.entries[place][0] for place in places]
        REPEATS.labels(self._group).inc(len(places))
        return batch.without(places)

    def _suspicion(self, batch: Batch, entry_id: bytes) -> Suspicion:
        return self._liveness.suspects.of(batch.source, entry_id)

    def _admit_alone(self, batch: Batch, places: Sequence[int]) -> None:
        """Have these entries handled one at a time, the worst last; bury those of which enough workers have died."""
        found = [(self._suspicion(batch, batch.entries[place][0]), place) for place in places]
        for suspicion, place in sorted(found, key=lambda one: one[0].deaths):
            (entry_id, flat), event = batch.entries[place], batch.events[place]
            if suspicion.proved:
                error = f"killer: {suspicion.deaths} workers died while they had it alone in hand"
                copy = Copy.of(entry_id, named(flat), origin=event.entry, attempt=event.attempt, error=error)
                self._settling.of(batch.source).copies.append(copy)
            else:
                self._calls.put(Call(batch.source, [(entry_id, flat)], [event], solo=True))

    async def _heed(self) -> None:
        """Wait for the target, or keep what is in hand while the group is paused; a stop waits for neither."""
        if await self._gate.heed():
            return
        if self._calls.busy and self._liveness.late(self._generation):
            raise BatchDropped
        if self._stop.is_set():
            self.close()

    async def _settle(self) -> None:
        """Have ended what has been handled, or failed."""
        self._judge(self._calls.take())
        await self._settling.write(self._generation)

    def _judge(self, finished: Sequence[Call]) -> None:
        """Sort the calls that have ended into what is to be acked, parked and buried."""
        failed: list[Call] = []
        for call in finished:
            self._seconds.observe(call.seconds)
            if call.error is None:
                self._settling.of(call.source).acks += [entry_id for entry_id, _ in call.entries]
                if self._repeats is not None:
                    self._settling.of(call.source).marks += map(mark, call.events)
                self._handled.inc(len(call.events))
                if call.source is Source.RETRY:
                    note_attempts(self._group, (event.attempt for event in call.events))
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
            self._settling.of(call.source).copies += made
            copies += made
        for name, count in kinds.items():
            HANDLER_FAILURES.labels(self._group, name).inc(count)
        parked = sum(copy.delay_seconds is not None for copy in copies)
        PARKED.labels(self._group).inc(parked)
        log.warning(
            "batch.failed",
            group=self._group,
            events=len(copies),
            errors=counted(kinds),
            parked=parked,
            first=copies[0].fields[b"origin"].decode(),
        )

    def _copy(self, entry: tuple[bytes, list[bytes]], event: StatusEvent, error: BaseException) -> Copy:
        verdict = judge(error, event.attempt, self._schedule, self._chance())
        entry_id, flat = entry
        return Copy.of(
            entry_id,
            named(flat),
            origin=event.entry,
            attempt=event.attempt,
            error=verdict.error,
            delay_seconds=verdict.delay_seconds,
        )
