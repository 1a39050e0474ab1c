"""The loop of one group: claim or read a batch, have it processed, begin again; and whatever fails, go on.

What fails here is Redis (stream.trouble says what that means). Then nothing in hand is settled, the consumer takes a
new name, waits, and begins from the start; its old name's entries are claimed like those of any dead consumer, by this
process or another. A read that does not end, whatever the reason, is given up like one that failed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime.backoff import Backoff
from runtime.metrics import DROPPED, LAST_READ
from runtime.tasks import end
from stream.redis.client import ServerUnfit, reason, require
from stream.redis.errors import SILENT
from worker.consumer.batch import Batch
from worker.consumer.fetcher import BLOCK_MS, Reader
from worker.consumer.processor import Processor
from worker.consumer.redis_health import Condition
from worker.dispatch.pause import LOOK_SECONDS, MEANING, Pause
from worker.group.consumer_group import Group
from worker.group.heartbeat import BEAT_SECONDS, Liveness
from worker.settle.ack_writer import BatchDropped
from worker.settle.delayed import Parked

log = structlog.get_logger("consumer")

CHECKPOINT_SECONDS = 1.0
PROMOTE_SECONDS = 1.0
RETRY_SECONDS = (0.1, 2.0)
LEAVE_SECONDS = 2.0

COMMANDS = (
    "DEL",
    "EVALSHA",
    "HGET",
    "HINCRBY",
    "HLEN",
    "HMGET",
    "HSET",
    "PEXPIRE",
    "SCRIPT",
    "TIME",
    "UNLINK",
    "XACK",
    "XADD",
    "XCLAIM",
    "XDEL",
    "XGROUP",
    "XINFO",
    "XLEN",
    "XPENDING",
    "XREADGROUP",
    "ZADD",
    "ZCARD",
    "ZRANGEBYSCORE",
    "ZREM",
)


class Consumer:
    """Consumes one group. ``servers`` are the clients that ``reader`` and the others use."""

    def __init__(
        self,
        servers: Sequence[Redis],
        reader: Reader,
        group: Group,
        liveness: Liveness,
        processor: Processor,
        parked: Parked,
        pause: Pause,
    ) -> None:
        self._server = servers[0]
        self._reader = reader
        self._group = group
        self._liveness = liveness
        self._processor = processor
        self._parked = parked
        self._pause = pause
        self._condition = Condition(group.name, servers)
        self._last_read = LAST_READ.labels(group.name)

    @property
    def why_not(self) -> str | None:
        """Why the group is not being consumed right now; None while it is."""
        if self._processor.hangs:
            return f"group {self._group.name}: its handler hangs"
        if self._pause.why is not None:
            return f"group {self._group.name} is paused: {MEANING[self._pause.why]}"
        return self._condition.why_not

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until ``stop``, finishing what is in hand. Raises ServerUnfit if it could not even begin."""
        backoff = Backoff(*RETRY_SECONDS)
        while not stop.is_set():
            try:
                if not self._condition.well:
                    await self._prepare()
                await self._consume(stop, backoff)
            except BatchDropped:
                self._drop("late or stopping")
            except (RedisError, OSError, ServerUnfit) as exc:
                await self._recover(exc)
                await backoff.wait(stop)

    async def keep_alive(self) -> NoReturn:
        """Beat for ever, but not while the handler hangs: others shall take over what it has in hand."""
        await self._every(BEAT_SECONDS, self._beat)

    async def keep_checkpoint(self) -> NoReturn:
        """Note the group's progress for ever."""
        await self._every(CHECKPOINT_SECONDS, self._group.save_checkpoint)

    async def keep_retries(self) -> NoReturn:
        """Give what is parked and due to whoever reads next, for ever."""
        await self._every(PROMOTE_SECONDS, self._parked.promote)

    async def keep_pause(self) -> NoReturn:
        """See whether the group is paused, for ever."""
        await self._every(LOOK_SECONDS, self._pause.look)

    def close(self) -> None:
        """Begin nothing more of what is in hand."""
        self._processor.close()

    async def leave(self) -> None:
        """Hand over what is still pending."""
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._liveness.leave()
        except (RedisError, OSError) as exc:  # then the others find the counter standing still
            log.warning("consumer.left_silently", group=self._group.name, error=reason(exc))

    async def _prepare(self) -> None:
        await require(self._server, COMMANDS)
        await self._group.ensure()
        await self._pause.look()
        await self._liveness.announce()
        self._condition.recovered()
        log.info("consumer.ready", group=self._group.name, consumer=self._liveness.consumer)

    async def _consume(self, stop: asyncio.Event, backoff: Backoff) -> None:
        """Process batch after batch; while one is being handled, the next is read and parsed, unless tidying is due."""
        reading = asyncio.create_task(self._next(stop))
        try:
            while not stop.is_set():
                batches = await self._condition.ended(reading)
                if self._liveness.untidy and self._reader.idle:
                    await self._liveness.tidy(await self._processor.in_hand(batches))
                was_busy, began = self._reader.busy, time.monotonic()
                reading = asyncio.create_task(self._next(stop))
                await self._processor.process(batches, reading)
                if was_busy:
                    self._reader.pace(time.monotonic() - began)
                backoff.reset()
            await self._processor.process(await self._condition.ended(reading), reading)
            if not self._reader.idle:
                reading = asyncio.create_task(self._next(stop))
                await self._processor.process(await self._condition.ended(reading), reading)
            await self._processor.finish()
        finally:
            await self._condition.abandon(reading)  # what it read stays pending, and is claimed
            await self._reader.abandon()
            await self._processor.drop()

    async def _next(self, stop: asyncio.Event) -> list[Batch]:
        """Claim what dead consumers have in hand, or else read the next turn's entries."""
        if self._processor.hangs:
            await asyncio.sleep(BLOCK_MS / 1000)
            return []
        await self._liveness.announce()
        generation = self._liveness.generation
        found = await self._liveness.claim(self._reader.count)
        if not found:
            generation, found = await self._reader.read(go_on=not (stop.is_set() or self._liveness.untidy))
        self._last_read.set_to_current_time()
        shard = self._group.shard.number
        return [Batch.read(source, entries, shard=shard, generation=generation) for source, entries in found.items()]

    async def _beat(self) -> None:
        if self._processor.hangs:
            log.error("consumer.hangs", group=self._group.name, what="its handler goes on after its time")
        else:
            await self._liveness.beat()

    def _drop(self, why: str) -> None:
        log.warning("consumer.dropped", group=self._group.name, why=why)
        DROPPED.labels(self._group.name).inc()
        self._liveness.renew()

    async def _recover(self, exc: Exception) -> None:
        """Drop what is in hand, and make ready for a new beginning."""
        if self._condition.well:
            self._drop(reason(exc))
        if await self._condition.suffer(exc) is SILENT:
            self._reader.slow_down()  # perhaps a batch takes the network too long

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> NoReturn:
        while True:
            await asyncio.sleep(seconds)
            if not self._condition.well:
                continue
            try:
                await act()
            except (RedisError, OSError) as exc:
                log.warning("consumer.upkeep_failed", group=self._group.name, error=reason(exc))
                self._condition.notice(exc)


async def consume(consumers: Sequence[Consumer], stop: asyncio.Event, grace_seconds: float) -> None:
    """Run all consumers until ``stop``; then let them finish for at most ``grace_seconds`` and hand over the rest."""
    async with asyncio.TaskGroup() as tasks:
        loops = [tasks.create_task(consumer.run(stop)) for consumer in consumers]
        upkeep = [
            tasks.create_task(keep())
            for consumer in consumers
            for keep in (consumer.keep_alive, consumer.keep_checkpoint, consumer.keep_retries, consumer.keep_pause)
        ]
        await stop.wait()
        await asyncio.wait(loops, timeout=grace_seconds / 2)
        for consumer in consumers:
            consumer.close()
        await asyncio.wait(loops, timeout=grace_seconds / 2)
        await end((*loops, *upkeep))
    await asyncio.gather(*(consumer.leave() for consumer in consumers))
