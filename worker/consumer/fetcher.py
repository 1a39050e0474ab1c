"""Reads the entries of one consumer, as worker.consumer.fetch_plan plans it.

While entries pile up, the fetcher sends the next read before the last one is parsed, so that Redis never idles.
"""

import asyncio
import time
from typing import Any

from stream.redis.client import keep_raw
from worker.consumer.fetch_plan import FetchPlan, next_batch_size, plan_fetch
from worker.consumer.redis_health import RedisHealth
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat, RawEntries
from worker.metrics import READ
from worker.sources import FEW, Source

BLOCK_MS = 1000
LEAST_BLOCK_MS = 10
BATCH_BYTES = 32 * 1024 * 1024

FetchedEntries = dict[Source, RawEntries]


class Fetcher:
    """Reads a group's streams. The client of ``group`` serves nothing else: its replies take up to BLOCK_MS."""

    def __init__(self, group: GroupRef, heartbeat: Heartbeat, batch_entries: int) -> None:
        keep_raw(group.server, "XREADGROUP")  # saves a dictionary for each entry
        self._server = group.server
        self._group = group.name
        self._heartbeat = heartbeat
        self._streams = group.streams
        self._batch_entries = batch_entries
        self._seconds = 0.0
        self._ahead: tuple[int, asyncio.Task[FetchedEntries]] | None = None
        self._read = READ.labels(group.name)
        self.count = min(FEW, batch_entries)
        """The maximum of live entries in one read."""
        self.is_busy = False
        """Whether the last read got as many live entries as it asked for."""

    @property
    def is_idle(self) -> bool:
        """Whether no prefetched read is under way or waits to be returned."""
        return self._ahead is None

    async def read(
        self, *, prefetch: bool, copies: int = FEW, live: bool = True, seconds: float = BLOCK_MS / 1000
    ) -> tuple[int, FetchedEntries]:
        """Return the entries of the next read, and the consumer's generation when it was sent. Raises RedisError.

        ``copies`` and ``live`` are those of ``plan_fetch``. The read waits up to ``seconds`` for entries. With
        ``prefetch``, and while entries pile up, the read after that starts too. Entries that were read under a former
        name of the consumer are not returned: a worker claims them.
        """
        generation, reading = self._ahead or self._start_read(copies, live=live, seconds=seconds)
        self._ahead = None
        entries = await reading
        if generation != self._heartbeat.generation:
            return generation, {}
        if prefetch and self.is_busy and live:
            self._ahead = self._start_read(copies, live=live, seconds=seconds)
            await asyncio.sleep(0)  # lets the task send it
        return generation, entries

    async def abandon(self) -> None:
        """Cancel the read that is under way: its entries stay pending until a worker claims them."""
        if self._ahead is not None:
            _, reading = self._ahead
            self._ahead = None
            await RedisHealth.abandon(reading)

    def adapt_count(self, seconds: float) -> None:
        """Set the size of the next batch after the last one took ``seconds`` to handle."""
        self.count = next_batch_size(self.count, self._batch_entries, max(seconds, self._seconds))

    def read_few(self) -> None:
        """Read at most FEW live entries the next time."""
        self.count = min(self.count, FEW)

    def slow_down(self) -> None:
        """Quarter the size of the next batch."""
        self.count = max(1, self.count // 4)

    def _start_read(self, copies: int, *, live: bool, seconds: float) -> tuple[int, "asyncio.Task[FetchedEntries]"]:
        plan = plan_fetch(self.count, busy=self.is_busy, copies=copies, live=live)
        return self._heartbeat.generation, asyncio.create_task(
            self._fetch(plan, max(LEAST_BLOCK_MS, min(BLOCK_MS, round(1000 * seconds))))
        )

    async def _fetch(self, plan: FetchPlan, block_ms: int) -> FetchedEntries:
        if not plan.counts:
            await asyncio.sleep(block_ms / 1000)
            return {}
        entries = await (self._wait(plan, block_ms) if plan.waits else self._read_at_once(plan))
        self._read.inc(sum(map(len, entries.values())))
        if (maximum := plan.counts.get(Source.LIVE)) is not None:
            live = entries.get(Source.LIVE, [])
            self.is_busy = len(live) >= maximum
            self.count = self._limit_count(live)
        return entries

    async def _wait(self, plan: FetchPlan, block_ms: int) -> FetchedEntries:
        """Read all streams in one command, which waits until one has entries."""
        reply: Any = await self._server.xreadgroup(
            self._group,
            self._heartbeat.consumer,
            {self._streams[source]: ">" for source in plan.counts},
            count=max(plan.counts.values()),
            block=block_ms,
        )
        entries = {stream.decode(): raw for stream, raw in reply or ()}
        return {source: entries[stream] for source, stream in self._streams.items() if stream in entries}

    async def _read_at_once(self, plan: FetchPlan) -> FetchedEntries:
        """Read each stream with a command of its own, without waiting."""
        started = time.monotonic()
        async with self._server.pipeline(transaction=False) as pipe:
            for source, count in plan.counts.items():
                pipe.xreadgroup(self._group, self._heartbeat.consumer, {self._streams[source]: ">"}, count=count)
            replies: list[Any] = await pipe.execute()
        self._seconds = time.monotonic() - started
        return {source: reply[0][1] for source, reply in zip(plan.counts, replies, strict=True) if reply}

    def _limit_count(self, entries: RawEntries) -> int:
        """Return the count at which a batch of entries like these has at most BATCH_BYTES."""
        size = sum([_size(flat) for _, flat in entries])
        return min(self.count, max(1, BATCH_BYTES * len(entries) // size)) if size else self.count


def _size(flat: list[bytes]) -> int:
    """Return the bytes of the payload, or of all fields if the payload is not the second field."""
    return len(flat[3]) if len(flat) > 3 and flat[2] == b"payload" else sum(map(len, flat))  # noqa: PLR2004 - its place
