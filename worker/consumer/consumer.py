"""The main loop of one group on one shard: claims or reads a batch, processes it, and repeats.

When Redis fails (stream.redis.errors), the consumer settles nothing that is in flight. It takes a new name, waits, and
starts again. A worker (this one or another) then claims the entries of the old name, like those of any dead consumer.
A read that does not end is treated like a failed read.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NoReturn

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime.tasks import Backoff, wait_for
from stream.redis.client import ServerUnfit, limit_wait, name_error, require_commands
from stream.redis.errors import SILENT
from worker.consumer.batch import Batch
from worker.consumer.fetcher import BLOCK_MS, Fetcher
from worker.consumer.processor import Processor
from worker.consumer.redis_health import RedisHealth
from worker.consumer.upkeep import Upkeep
from worker.dispatch.dispatcher import Dispatcher
from worker.group.claim import Claimer
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat
from worker.metrics import DROPPED, LAST_READ
from worker.order.fence import OwnershipLost
from worker.order.message_order import MessageOrder, ShardSurplus
from worker.settle.ack_writer import BatchDropped

log = structlog.get_logger("consumer")

RETRY_SECONDS = (0.1, 2.0)
LEAVE_SECONDS = 2.0


class Consumer:
    """Consumes one group on one shard. ``servers`` are its clients."""

    def __init__(
        self,
        servers: Sequence[Redis],
        fetcher: Fetcher,
        group: GroupRef,
        heartbeat: Heartbeat,
        claimer: Claimer,
        processor: Processor,
        dispatcher: Dispatcher,
        upkeep: Upkeep,
        order: MessageOrder | None = None,
    ) -> None:
        self._server = servers[0]
        self._fetcher = fetcher
        self._group = group
        self._heartbeat = heartbeat
        self._claimer = claimer
        self._processor = processor
        self._dispatcher = dispatcher
        self._upkeep = upkeep
        self._order = order
        self._health = RedisHealth(group.name, servers)
        self._last_read = LAST_READ.labels(group.name)

    @property
    def not_ready_reason(self) -> str | None:
        """Why the group is not being consumed right now; None while it is."""
        if self._processor.hangs:
            return f"group {self._group.name}: its handler hangs"
        full = None if self._order is None else self._order.not_ready_reason
        return self._health.not_ready_reason or self._upkeep.not_ready_reason or full

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until ``stop``, then finish the entries in flight.

        Raises ServerUnfit if the server lacks what the worker needs at the start.
        """
        backoff = Backoff(*RETRY_SECONDS)
        while not stop.is_set():
            try:
                if not self._health.is_healthy:
                    await self._prepare()
                await self._consume(stop, backoff)
            except BatchDropped:
                self._drop("late or stopping")
            except ShardSurplus:
                self._heartbeat.renew()
            except OwnershipLost as exc:
                self._drop(str(exc))
            except (RedisError, ServerUnfit) as exc:
                await self._recover(exc)
                await backoff.wait(stop)

    @property
    def upkeep(self) -> Sequence[Coroutine[Any, Any, NoReturn]]:
        """The endless loops that run at the same time as ``run``."""
        timing = self._upkeep.timing
        steps = [self._repeat(timing.upkeep, step) for step in self._upkeep.steps]
        check = self._repeat(timing.check, self._dispatcher.check_target)
        if self._order is not None:
            steps.append(self._repeat(timing.orphan_check, self._order.check_delayed))
            steps.append(self._repeat(timing.upkeep, self._cancel_late_calls))
        return [self._repeat(timing.beat, self._beat), check, *steps]

    def close(self) -> None:
        """Start no further calls: entries in flight that have no call yet stay pending."""
        self._processor.close()

    async def leave(self) -> None:
        """Remove the heartbeat, so that other workers claim the pending entries at once."""
        try:
            async with limit_wait(LEAVE_SECONDS):
                await self._heartbeat.leave()
        except RedisError as exc:  # the others then see that the counter does not move
            log.warning("consumer.leave_failed", group=self._group.name, error=name_error(exc))

    async def _prepare(self) -> None:
        await require_commands(self._server, ["FUNCTION"])  # as old as the scripts' flags: Redis 7.0
        await self._upkeep.find_shards()
        await self._upkeep.group.ensure()
        await self._upkeep.refresh()
        await self._heartbeat.announce()
        self._health.mark_healthy()
        log.info(
            "consumer.ready",
            group=self._group.name,
            shard=self._group.shard.number,
            consumer=self._heartbeat.consumer,
        )

    async def _consume(self, stop: asyncio.Event, backoff: Backoff) -> None:
        """Process batch after batch, and read the next one at the same time, unless an orphan check is due.

        While the group keeps up, the read waits until the dispatcher can take more. Sent earlier, it would return the
        first few entries of that time: they would wait for a call of their own, and the later ones for the call after.
        """
        if self._order is not None and not await self._take_shard(self._order, stop):
            return
        self._dispatcher.has_room.set()
        reading = asyncio.create_task(self._next(stop))
        try:
            while not stop.is_set():
                batches = await self._health.wait_for(reading)
                if self._heartbeat.orphan_check_due and self._fetcher.is_idle:
                    await self._heartbeat.check_orphans(await self._processor.count_in_flight(batches))
                was_busy, started = self._fetcher.is_busy, time.monotonic()
                reading = asyncio.create_task(self._next(stop))
                self._dispatcher.has_room.clear()
                await self._processor.process(batches, reading)
                self._dispatcher.has_room.set()
                if was_busy:
                    self._fetcher.adapt_count(time.monotonic() - started)
                backoff.reset()
            await self._processor.process(await self._health.wait_for(reading), reading)
            if not self._fetcher.is_idle:
                reading = asyncio.create_task(self._next(stop))
                await self._processor.process(await self._health.wait_for(reading), reading)
            await self._processor.finish()
        finally:
            if self._order is not None:
                self._order.note_dropped(self._count_started())
            await self._health.abandon(reading)  # entries that it reads stay pending until a worker claims them
            await self._fetcher.abandon()
            await self._processor.drop()
            if self._order is not None:
                self._order.leave_shard()

    async def _take_shard(self, order: MessageOrder, stop: asyncio.Event) -> bool:
        """Wait until this worker owns the shard. Return False at the stop."""
        while not stop.is_set():
            await self._heartbeat.announce()
            self._last_read.set_to_current_time()
            if await order.take_shard():
                return True
            await wait_for(stop, self._upkeep.timing.upkeep)
        return False

    async def _next(self, stop: asyncio.Event) -> list[Batch]:
        """Claim entries of dead consumers; without any, read the next entries. Send no read after the stop."""
        if self._processor.hangs:
            await asyncio.sleep(BLOCK_MS / 1000)
            return []
        if not self._fetcher.is_busy:
            await self._dispatcher.has_room.wait()
            if stop.is_set() and self._fetcher.is_idle:
                return []
        await self._heartbeat.announce()
        generation = self._heartbeat.generation
        if self._upkeep.backlog.is_tight:
            self._fetcher.read_few()
        entries = await self._claimer.claim(self._fetcher.count)
        if not entries:
            copies = self._dispatcher.count_wanted_copies()
            generation, entries = await self._fetcher.read(
                prefetch=not (stop.is_set() or self._heartbeat.orphan_check_due),
                copies=copies,
                live=not (self._upkeep.backlog.is_full or (self._order and self._order.gate.is_full)),
                seconds=BLOCK_MS / 1000 if copies else self._dispatcher.seconds_until_copies_due(),
            )
        self._last_read.set_to_current_time()
        shard = self._group.shard.number
        return [Batch.read(source, raw, shard=shard, generation=generation) for source, raw in entries.items()]

    async def _beat(self) -> None:
        if self._processor.hangs:  # without a heartbeat, other workers claim the entries in flight
            log.error("consumer.hangs", group=self._group.name, what="its handler did not end after its timeout")
        else:
            await self._heartbeat.beat()

    async def _cancel_late_calls(self) -> None:
        """In order mode: cancel the calls of a late worker, also at its stop, and while its loop waits for Redis."""
        if self._order is not None and self._order.is_late and self._dispatcher.is_busy:
            self._order.note_dropped(self._count_started())
            self._heartbeat.renew()  # the loop then drops all entries
            await self._dispatcher.cancel()

    def _count_started(self) -> int:
        return sum(len(call.events) for call in self._dispatcher.started)

    def _drop(self, why: str) -> None:
        log.warning("consumer.dropped", group=self._group.name, why=why)
        DROPPED.labels(self._group.name).inc()
        self._heartbeat.renew()

    async def _recover(self, exc: Exception) -> None:
        """Drop the entries in flight after an error of Redis."""
        if self._health.is_healthy:
            self._drop(name_error(exc))
        if await self._health.record_failure(exc) is SILENT:
            self._fetcher.slow_down()  # a batch may be too large for the network

    async def _repeat(self, seconds: float, step: Callable[[], Awaitable[None]]) -> NoReturn:
        while True:
            await asyncio.sleep(seconds)
            if not self._health.is_healthy:
                continue
            try:
                await step()
            except RedisError as exc:
                log.warning("consumer.upkeep_failed", group=self._group.name, error=name_error(exc))
                self._health.record_upkeep_error(exc)
