"""Reads the entries of one consumer, as worker.consumer.fetch_plan says.

While entries pile up, the next read is under way before the last one is parsed, so that Redis works meanwhile.
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
        keep_raw(group.server, "XREADGROUP")  # a dictionary of each entry's fields would be made for nothing
        self._server = group.server
        self._group = group.name
        self._heartbeat = heartbeat
        self._streams = group.streams
        self._batch_entries = batch_entries
        self._seconds = 0.0
        self._ahead: tuple[int, asyncio.Task[FetchedEntries]] | None = None
        self._read = READ.labels(group.name)
        self.count = min(FEW, batch_entries)
        """How many live entries are read at once, at most."""
        self.is_busy = False
        """Whether the last read got as many live entries as it asked for."""

    @property
    def is_idle(self) -> bool:
        """Whether no read is under way, nor has ended without being asked for."""
        return self._ahead is None

    async def read(
        self, *, prefetch: bool, copies: int = FEW, live: bool = True, seconds: float = BLOCK_MS / 1000
    ) -> tuple[int, FetchedEntries]:
        """Return what the next read gives, and the consumer's generation when it was sent. Raises RedisError.

        ``others`` and ``live`` are as for ``plan_fetch``. Waits for at most so many ``seconds`` until there are any.
        Begins the read after that too if it is to ``prefetch`` and entries pile up. What was read under a name that the
        consumer has left by now is left to be claimed.
        """
        generation, reading = self._ahead or self._begin(copies, live=live, seconds=seconds)
        self._ahead = None
        found = await reading
        if generation != self._heartbeat.generation:
            return generation, {}
        if prefetch and self.is_busy and live:
            self._ahead = self._begin(copies, live=live, seconds=seconds)
            await asyncio.sleep(0)  # in which it is sent
        return generation, found

    async def abandon(self) -> None:
        """Give up the read that is under way: what it reads stays pending, and is claimed."""
        if self._ahead is not None:
            _, reading = self._ahead
            self._ahead = None
            await RedisHealth.abandon(reading)

    def adapt_count(self, seconds: float) -> None:
        """Let the next batch be as large as its time allows, when the last one took so long to be handled."""
        self.count = next_batch_size(self.count, self._batch_entries, max(seconds, self._seconds))

    def read_few(self) -> None:
        """Read few entries the next time, whatever the pace."""
        self.count = min(self.count, FEW)

    def slow_down(self) -> None:
        """Read much less at once."""
        self.count = max(1, self.count // 4)

    def _begin(self, copies: int, *, live: bool, seconds: float) -> tuple[int, "asyncio.Task[FetchedEntries]"]:
        plan = plan_fetch(self.count, busy=self.is_busy, copies=copies, live=live)
        return self._heartbeat.generation, asyncio.create_task(
            self._fetch(plan, max(LEAST_BLOCK_MS, min(BLOCK_MS, round(1000 * seconds))))
        )

    async def _fetch(self, plan: FetchPlan, block_ms: int) -> FetchedEntries:
        if not plan.counts:
            await asyncio.sleep(block_ms / 1000)
            return {}
        found = await (self._wait(plan, block_ms) if plan.waits else self._take(plan))
        self._read.inc(sum(map(len, found.values())))
        if (most := plan.counts.get(Source.LIVE)) is not None:
            live = found.get(Source.LIVE, [])
            self.is_busy = len(live) >= most
            self.count = self._fitting(live)
        return found

    async def _wait(self, plan: FetchPlan, block_ms: int) -> FetchedEntries:
        """Read all streams at once, and wait until one has entries."""
        reply: Any = await self._server.xreadgroup(
            self._group,
            self._heartbeat.consumer,
            {self._streams[source]: ">" for source in plan.counts},
            count=max(plan.counts.values()),
            block=block_ms,
        )
        entries = {stream.decode(): found for stream, found in reply or ()}
        return {source: entries[stream] for source, stream in self._streams.items() if stream in entries}

    async def _take(self, plan: FetchPlan) -> FetchedEntries:
        """Read each stream by itself, without waiting."""
        began = time.monotonic()
        async with self._server.pipeline(transaction=False) as pipe:
            for source, most in plan.counts.items():
                pipe.xreadgroup(self._group, self._heartbeat.consumer, {self._streams[source]: ">"}, count=most)
            replies: list[Any] = await pipe.execute()
        self._seconds = time.monotonic() - began
        return {source: reply[0][1] for source, reply in zip(plan.counts, replies, strict=True) if reply}

    def _fitting(self, entries: RawEntries) -> int:
        """Return how many entries like these, at most, make a batch of BATCH_BYTES."""
        size = sum([_size(flat) for _, flat in entries])
        return min(self.count, max(1, BATCH_BYTES * len(entries) // size)) if size else self.count


def _size(flat: list[bytes]) -> int:
    """Return the bytes of the payload where ingest puts it; else those of everything."""
    return len(flat[3]) if len(flat) > 3 and flat[2] == b"payload" else sum(map(len, flat))  # noqa: PLR2004 - its place
