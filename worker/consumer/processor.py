"""Processes the batches of a group: dispatches their events, then acks, delays or dead-letters their entries."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from runtime.tracing.process import find_trace_id
from stream.entry import fields_from_flat
from worker.consumer.batch import Batch
from worker.dispatch.call import Call
from worker.dispatch.circuit import Circuit
from worker.dispatch.dispatcher import KEPT_ENTRIES, Dispatcher
from worker.dispatch.suspects import Suspect
from worker.events.event import StatusEvent
from worker.group.heartbeat import Heartbeat
from worker.group.poison import PoisonTracker
from worker.metrics import DEDUPLICATED, FILTERED, HANDLE_SECONDS, HANDLED, HANDLER_FAILURES
from worker.order.message_order import MessageOrder
from worker.settle.ack_writer import AckWriter, BatchDropped, format_counts, observe_attempts
from worker.settle.copies import Copy
from worker.settle.dedup import Deduplicator, mark
from worker.settle.history import EntryOutcome
from worker.settle.retry_policy import Failure, RetryPolicy, failure_kind
from worker.sources import Source

log = structlog.get_logger("processor")

_BROUGHT_BACK = {b"error", b"noted"}
"""A copy of a replay has one of these fields if it was a dead letter, or if the replay is small."""


class Processor:
    """Processes the batches of one group on one shard, with the objects that worker.wiring made for them.

    ``prober`` is the heartbeat of shard 0, which has the pause. ``hangs`` says whether a call hangs on any shard.
    """

    def __init__(
        self,
        group: str,
        dispatcher: Dispatcher,
        circuit: Circuit,
        policy: RetryPolicy,
        writer: AckWriter,
        heartbeat: Heartbeat,
        poison: PoisonTracker,
        stop: asyncio.Event,
        *,
        dedup: Deduplicator | None = None,
        secrets: Sequence[str] = (),
        chance: Callable[[], float] = random.random,
        accepts: Callable[[StatusEvent], bool] | None = None,
        prober: Heartbeat | None = None,
        hangs: Callable[[], bool] = lambda: False,
        order: MessageOrder | None = None,
    ) -> None:
        self._group = group
        self._dispatcher = dispatcher
        self._circuit = circuit
        self._policy = policy
        self._writer = writer
        self._heartbeat = heartbeat
        self._prober = prober or heartbeat
        self._others_hang = hangs
        self._order = order
        self._poison = poison
        self._stop = stop
        self._dedup = dedup
        self._secrets = secrets
        self._chance = chance
        self._accepts = accepts
        self._generation = 0
        self._closed = False
        self._handled = HANDLED.labels(group)
        self._seconds = HANDLE_SECONDS.labels(group)

    @property
    def hangs(self) -> bool:
        """Whether a call ignores its cancellation, here or on another shard: it may have the last slot."""
        return self._dispatcher.hangs or self._others_hang()

    async def count_in_flight(self, batches: Iterable[Batch]) -> Counter[Source]:
        """Count the entries of each stream that are in flight, with these batches. Raises as ``process``."""
        await self._writer.wait_until_written()
        counts = self._dispatcher.count()
        if self._order is not None:
            counts += self._order.gate.waiting
        for batch in batches:
            counts[batch.source] += len(batch.entries) + len(batch.invalid) + len(batch.unverified) + len(batch.probes)
        return counts

    async def process(self, batches: Iterable[Batch], reading: asyncio.Future[Any]) -> None:
        """Handle and settle batches. Raises BatchDropped; and RedisError, after which it is unknown what is settled.

        Returns once all entries are settled; or once ``reading`` is done and the dispatcher can take more. Slow calls
        and the current write then continue during the next batch.
        """
        turns = 0  # how many waiting events of order mode go before the next batch: as many as these batches have
        for batch in batches:
            turns += len(batch.entries)
            await self._admit(batch)
        while True:
            await self._check_not_late()
            turns -= await self._admit_due()
            if self._dispatcher.is_busy:
                await self._dispatcher.step(reading)
            if self._dispatcher.can_take_more:
                self._dispatcher.has_room.set()
            await self._settle()
            if self._closed or not (self._dispatcher.is_busy or self._can_admit_due):
                await self._writer.wait_until_written(unless=reading)
                return
            if reading.done() and self._dispatcher.can_take_more and not (turns > 0 and self._can_admit_due):
                return

    async def finish(self) -> None:
        """Start no further call, and settle the running ones. Raises as ``process``."""
        self.close()
        while self._dispatcher.is_busy:
            await self._dispatcher.step()
            await self._settle()
        await self._writer.wait_until_written()

    def close(self) -> None:
        """Start no further call. Entries without a call stay pending, and another worker claims them."""
        self._closed = True
        self._dispatcher.close()

    async def drop(self) -> None:
        """Forget the entries in flight. They stay pending, and the worker that claims them handles them again."""
        await self._writer.drop()
        self._poison.forget()
        await self._dispatcher.cancel()

    async def _admit(self, batch: Batch) -> None:
        if batch.generation != self._generation and self._dispatcher.is_busy:
            raise BatchDropped  # another worker may have claimed the entries of the running calls
        self._generation = self._circuit.generation = batch.generation
        if batch.invalid:
            self._writer.next_settlement(batch.source).copies += batch.invalid
        if batch.unverified:
            self._writer.next_settlement(batch.source).invalid += batch.unverified
        if batch.probes:
            self._writer.next_settlement(batch.source).acks += batch.probes
        if self._accepts is not None:
            batch = self._filter(batch, self._accepts)
        if self._dedup is not None and batch.source is Source.LIVE and batch.events:
            batch = await self._drop_handled(self._dedup, batch)
        if self._order is not None:
            batch = batch.without(await self._order.admit(batch.source, batch.entries, batch.events))
        if self._closed:
            return
        if self._poison.has_any:
            batch = self._admit_suspects(batch)
        self._dispatcher.put(Call(batch.source, batch.entries, batch.events))

    @property
    def _can_admit_due(self) -> bool:
        if self._order is None or self._closed or not self._order.gate.has_due:
            return False
        return self._dispatcher.can_take_more and self._dispatcher.count()[Source.LIVE] < KEPT_ENTRIES

    async def _admit_due(self) -> int:
        """Take events that waited for an earlier one of their message. Return their number, 0 if none may go."""
        if self._order is None or not self._can_admit_due:
            return 0
        loaded = await self._order.load_due()
        for source, entries in loaded.items():
            await self._admit(Batch.read(source, entries, shard=self._order.shard, generation=self._generation))
        return max(1, sum(map(len, loaded.values())))  # entries that were erased take a turn too

    def _filter(self, batch: Batch, accepts: Callable[[StatusEvent], bool]) -> Batch:
        """Return the batch without the events that the handler's filter excludes, and settle those."""
        places = [place for place, event in enumerate(batch.events) if not accepts(event)]
        if not places:
            return batch
        self._skip(batch, places, "filtered")
        FILTERED.labels(self._group).inc(len(places))
        return batch.without(places)

    async def _drop_handled(self, dedup: Deduplicator, batch: Batch) -> Batch:
        """Return the batch without the events that were handled before, and settle those."""
        places = await dedup.find_handled(batch.events, self._writer.marks)
        if not places:
            return batch
        self._skip(batch, places, "repeated")
        DEDUPLICATED.labels(self._group).inc(len(places))
        return batch.without(places)

    def _skip(self, batch: Batch, places: Sequence[int], outcome: str) -> None:
        """Settle events without a call."""
        settlement = self._writer.next_settlement(batch.source)
        for place in places:
            event = batch.events[place]
            settlement.acks.append(batch.entries[place][0])
            settlement.outcomes.append(EntryOutcome(event.entry, outcome, event.attempt))

    def _admit_suspects(self, batch: Batch) -> Batch:
        """Return the batch without suspects. Those are handled under a mark, or dead-lettered if proven poison."""
        records = [self._poison.find(batch.source, entry_id) for entry_id, _ in batch.entries]
        places = [place for place, record in enumerate(records) if record.is_suspect]
        suspects: list[Suspect] = []
        for place in places:
            (entry_id, flat), event, deaths = batch.entries[place], batch.events[place], records[place].deaths
            if records[place].is_proven:
                error = f"poison: {deaths} workers died while they handled only this entry"
                copy = Copy.from_invalid(entry_id, fields_from_flat(flat), origin=event.entry, error=error)
                self._writer.next_settlement(batch.source).copies.append(copy)
            else:
                suspects.append(Suspect(batch.source, (entry_id, flat), event, deaths))
        self._dispatcher.put_suspects(suspects)
        return batch.without(places) if places else batch

    async def _check_not_late(self) -> None:
        """Apply the pause, and probe. Raises BatchDropped if the worker is late: others may have the entries."""
        await self._circuit.apply()
        if self._order is not None:
            self._order.require_shard(is_running=bool(self._dispatcher.started))
        if self._dispatcher.is_busy and self._heartbeat.is_late(self._generation):
            raise BatchDropped
        if self._stop.is_set() and not self._circuit.can_start:
            self.close()
        if not self._closed:
            await self._dispatcher.probe(self._prober.consumer)

    async def _settle(self) -> None:
        """Settle the calls that have ended."""
        self._sort_ended(self._dispatcher.take())
        await self._writer.write(self._generation)
        if self._order is not None:  # the next event of a message follows once this one is settled
            await self._writer.wait_until_written()

    def _sort_ended(self, ended: Sequence[Call]) -> None:
        """Sort the calls that have ended into entries to ack, to delay and to dead-letter."""
        for call in ended:
            traceparent = call.events[0].traceparent
            self._seconds.observe(call.seconds, {"trace_id": find_trace_id(traceparent)} if traceparent else None)
        for source in Source:
            if calls := [call for call in ended if call.error is None and call.source is source]:
                self._record_successes(source, calls)
        if failed := [(call, call.error) for call in ended if call.error is not None]:
            self._record_failures(failed)

    def _record_successes(self, source: Source, calls: Sequence[Call]) -> None:
        """Ack the events of these calls, all at once: that takes half the time of one call after the other."""
        events = [event for call in calls for event in call.events]
        settlement = self._writer.next_settlement(source)
        settlement.acks += [entry_id for call in calls for entry_id, _ in call.entries]
        if self._dedup is not None:
            settlement.marks += map(mark, events)
        self._handled.inc(len(events))
        if source is not Source.LIVE:
            settlement.outcomes += [
                EntryOutcome(event.entry, "handled", event.attempt)
                for call in calls
                for event, (_, flat) in zip(call.events, call.entries, strict=True)
                if event.attempt > 1 or not _BROUGHT_BACK.isdisjoint(flat[::2])
            ]
        if source is Source.RETRY:
            observe_attempts(self._group, (event.attempt for event in events))

    def _record_failures(self, failed: Sequence[tuple[Call, BaseException]]) -> None:
        kinds: Counter[str] = Counter()
        for call, error in failed:
            kinds[failure_kind(error)] += len(call.events)
            self._writer.next_settlement(call.source).copies += self._copies(call, error)
        for name, count in kinds.items():
            HANDLER_FAILURES.labels(self._group, name).inc(count)
        first = failed[0][0].events[0]
        traced = next((event.traceparent for call, _ in failed for event in call.events if event.traceparent), None)
        log.warning(
            "handler.failed",
            group=self._group,
            events=kinds.total(),
            errors=format_counts(kinds),
            first=first.entry,
            **({"trace_id": find_trace_id(traced)} if traced else {}),
        )

    def _copies(self, call: Call, error: BaseException) -> list[Copy]:
        failure = Failure.from_error(error, time.time_ns() // 1_000_000, self._secrets)
        stopping = self._stop.is_set()
        return [
            Copy.from_failure(
                entry_id,
                fields_from_flat(flat),
                origin=event.entry,
                attempt=event.attempt,
                disposition=self._policy.decide(error, event.attempt, self._chance(), stopping=stopping),
                failure=failure,
                started_seconds_ago=call.seconds,
            )
            for (entry_id, flat), event in zip(call.entries, call.events, strict=True)
        ]
