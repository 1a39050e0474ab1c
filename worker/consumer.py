"""The loop of one group: claim or read a batch, have it processed, begin again; and whatever fails, go on.

What fails here is Redis (stream.trouble says what that means). Then nothing in hand is settled, the consumer takes a
new name, waits, and begins from the start; its old name's entries are claimed like those of any dead consumer, by this
process or another. A read that does not end, whatever the reason, is given up like one that failed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.backoff import Backoff
from stream.connect import ServerUnfit, reason, require
from stream.ending import end
from stream.metrics import DROPPED, LAST_READ, READ
from stream.trouble import SILENT
from worker.condition import Condition
from worker.groups import Group
from worker.liveness import BEAT_SECONDS, Liveness, RawEntries
from worker.processor import Batch, BatchDropped, Processor

log = structlog.get_logger("consumer")

BLOCK_MS = 1000
BATCH_BYTES = 32 * 1024 * 1024
CHECKPOINT_SECONDS = 1.0
RETRY_SECONDS = (0.1, 2.0)
LEAVE_SECONDS = 2.0

COMMANDS = (
    "EVALSHA",
    "HINCRBY",
    "SCRIPT",
    "XACK",
    "XADD",
    "XCLAIM",
    "XGROUP",
    "XINFO",
    "XPENDING",
    "XREADGROUP",
)


class Consumer:
    """Consumes one group. ``reading`` is a client of its own, for its replies take as long as BLOCK_MS."""

    def __init__(
        self,
        server: Redis,
        reading: Redis,
        group: Group,
        liveness: Liveness,
        processor: Processor,
        batch_entries: int,
    ) -> None:
        self._server = server
        self._reading = reading
        self._group = group
        self._liveness = liveness
        self._processor = processor
        self._batch_entries = batch_entries
        self._count = batch_entries
        self._condition = Condition(group.name, (server, reading))
        self._read = READ.labels(group.name)
        self._last_read = LAST_READ.labels(group.name)

    @property
    def why_not(self) -> str | None:
        """Why the group is not being consumed right now; None while it is."""
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
        """Beat for ever."""
        await self._every(BEAT_SECONDS, self._liveness.beat)

    async def keep_checkpoint(self) -> NoReturn:
        """Note the group's progress for ever."""
        await self._every(CHECKPOINT_SECONDS, self._group.save_checkpoint)

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
        await self._liveness.announce()
        self._condition.recovered()
        log.info("consumer.ready", group=self._group.name, consumer=self._liveness.consumer)

    async def _consume(self, stop: asyncio.Event, backoff: Backoff) -> None:
        """Process batch after batch; while one is being handled, the next is read and parsed, unless tidying is due."""
        reading = asyncio.create_task(self._next())
        try:
            while not stop.is_set():
                batch = await self._condition.ended(reading)
                untidy = self._liveness.untidy
                if not untidy:
                    reading = asyncio.create_task(self._next())
                await self._processor.process(batch)
                backoff.reset()
                if untidy:
                    await self._liveness.tidy()
                    reading = asyncio.create_task(self._next())
            await self._processor.process(await self._condition.ended(reading))
        finally:
            await self._condition.abandon(reading)  # what it read stays pending, and is claimed

    async def _next(self) -> Batch:
        await self._liveness.announce()
        generation = self._liveness.generation
        entries = await self._liveness.claim(self._count)
        if not entries:
            reply: Any = await self._reading.xreadgroup(
                self._group.name,
                self._liveness.consumer,
                {self._group.shard.stream: ">"},
                count=self._count,
                block=BLOCK_MS,
            )
            entries = reply[0][1] if reply else []
            self._read.inc(len(entries))
            self._count = self._fitting(entries)
        self._last_read.set_to_current_time()
        return self._processor.parse(entries, generation)

    def _fitting(self, entries: RawEntries) -> int:
        """Return how many entries like these, at most, make a batch of BATCH_BYTES."""
        size = sum(len(fields.get(b"payload", b"")) for _, fields in entries if fields)
        return min(self._batch_entries, max(1, BATCH_BYTES * len(entries) // size)) if size else self._batch_entries

    def _drop(self, why: str) -> None:
        log.warning("consumer.dropped", group=self._group.name, why=why)
        DROPPED.labels(self._group.name).inc()
        self._liveness.renew()

    async def _recover(self, exc: Exception) -> None:
        """Drop what is in hand, and make ready for a new beginning."""
        if self._condition.well:
            self._drop(reason(exc))
        if await self._condition.suffer(exc) is SILENT:
            self._count = max(1, self._count // 4)  # perhaps a batch takes the network too long

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
            for keep in (consumer.keep_alive, consumer.keep_checkpoint)
        ]
        await stop.wait()
        await asyncio.wait(loops, timeout=grace_seconds)
        await end((*loops, *upkeep))
    await asyncio.gather(*(consumer.leave() for consumer in consumers))
