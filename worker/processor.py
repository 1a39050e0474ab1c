"""What becomes of a batch: the only place that decides between ack, another try and dead letter."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import structlog

from stream.backoff import Backoff
from stream.connect import names
from stream.entry import Entry, InvalidEntry
from stream.metrics import BURIED, HANDLE_SECONDS, HANDLED, HANDLER_FAILURES
from worker.liveness import Liveness, RawEntries
from worker.settle import Burial, Settler
from worker.status import InvalidStatus, StatusEvent
from worker.vonage import parse

log = structlog.get_logger("processor")

HANDLER_SECONDS = 60.0


class Handler(Protocol):
    """What a group does with its events. It may see an event again, and must then come to the same effect."""

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Return when the effect is there to stay; any exception means that the batch has to be handled again."""


class BatchDropped(Exception):  # noqa: N818 - named for what the loop must do
    """The batch in hand must not be settled: it stays pending, and whoever claims it handles it again."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries in hand, parsed. ``generation`` is the consumer's when they were read (worker.liveness)."""

    generation: int
    events: list[StatusEvent] = field(default_factory=list)
    settled: list[bytes] = field(default_factory=list)
    """The ids to ack once the events are handled."""
    burials: list[Burial] = field(default_factory=list)


class Processor:
    """Takes the batches of one group through parse, handle and settle, in this order."""

    def __init__(
        self,
        shard: int,
        group: str,
        handler: Handler,
        settler: Settler,
        liveness: Liveness,
        stop: asyncio.Event,
    ) -> None:
        self._shard = shard
        self._group = group
        self._handler = handler
        self._settler = settler
        self._liveness = liveness
        self._stop = stop

    def parse(self, entries: RawEntries, generation: int) -> Batch:
        """Sort what was read into events and what has to be buried."""
        batch = Batch(generation)
        for entry_id, fields in entries:
            if fields is None:  # deleted while it was pending: nothing is left to handle
                batch.settled.append(entry_id)
                continue
            try:
                event = parse(Entry.from_fields(fields), f"{self._shard}/{entry_id.decode()}")
            except (InvalidEntry, InvalidStatus) as exc:
                kind = "invalid-entry" if isinstance(exc, InvalidEntry) else "invalid-status"
                batch.burials.append(Burial(entry_id, fields, kind, str(exc)))
            else:
                batch.events.append(event)
                batch.settled.append(entry_id)
        return batch

    async def process(self, batch: Batch) -> None:
        """Handle and settle the batch. Raises BatchDropped, or RedisError if it is unknown what is settled."""
        if not batch.settled and not batch.burials:
            return
        if batch.events:
            await self._handle(batch.events, batch.generation)
        if self._liveness.late(batch.generation):
            raise BatchDropped
        await self._settle(batch.settled, batch.burials)
        HANDLED.labels(self._group).inc(len(batch.events))

    async def _handle(self, events: list[StatusEvent], generation: int) -> None:
        backoff = Backoff()
        while True:
            began = perf_counter()
            try:
                async with asyncio.timeout(HANDLER_SECONDS):
                    await self._handler.handle(events)
            except Exception as exc:  # noqa: BLE001 - whatever a handler raises, its batch is tried again
                HANDLER_FAILURES.labels(self._group, type(exc).__name__).inc()
                log.warning(
                    "batch.failed",
                    group=self._group,
                    events=len(events),
                    error=names(exc),
                )
            else:
                HANDLE_SECONDS.labels(self._group).observe(perf_counter() - began)
                return
            await backoff.wait(self._stop)
            if self._stop.is_set() or self._liveness.late(generation):
                raise BatchDropped

    async def _settle(self, settled: Sequence[bytes], burials: Sequence[Burial]) -> None:
        if settled:
            await self._settler.ack(settled)
        if burials:
            await self._settler.bury(burials)
            for burial in burials:
                BURIED.labels(self._group, burial.reason).inc()
            log.warning(
                "batch.buried",
                group=self._group,
                entries=len(burials),
                first=burials[0].error,
            )
