"""The trimmer: removes old entries from a shard, in steps that are too small to delay other clients.

Every worker runs one for each shard, but only the one that holds the shard's lease trims. With an archive, the trimmer
first writes the entries to the archive and then removes exactly these entries. After an error of Redis or the disk it
tries again.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime.log_throttle import LogThrottle
from runtime.tasks import cancel_and_wait, wait_for
from stream.entry import EntryId
from stream.keys import Shard
from stream.redis.client import client, name_error
from stream.redis.cluster import find_nodes, is_cluster, is_lost
from stream.shard_watch import ShardWatch
from worker.group.lease import Lease
from worker.metrics import (
    ARCHIVED,
    LAST_TRIM,
    MISSING,
    RETENTION_BLOCKED_ENTRIES,
    RETENTION_BLOCKED_SECONDS,
    STREAM_BYTES,
    STREAM_ENTRIES,
    TRIM_FAILURES,
    TRIMMED,
)
from worker.retention.ack_floor import SAMPLES, AckFloor, GroupPosition, Survey
from worker.retention.archive_writer import Archive, ArchiveDraft, ArchiveFailed
from worker.retention.loss_detector import LossDetector
from worker.retention.pages import FIRST_PAGE_ENTRIES, PAGE_ENTRIES, RawEntry, next_page_size, raw_ranges, read_page
from worker.retention.policy import ALONE, Due, OtherShards, RetentionPolicy
from worker.retention.settings import RetentionSettings

log = structlog.get_logger("retention")

POLL_SECONDS = 5.0
LEASE_MS = 60_000
STEP_ENTRIES = 1000
STEPS_AT_ONCE = 50
STEP_PAGES = STEP_ENTRIES // PAGE_ENTRIES
PAUSE_SECONDS = 0.002
PAUSE_TIMES = 3.0  # times as long as the step took, so that other clients have three quarters of the server's time
PAUSE_MOST_SECONDS = 0.05
STOP_SECONDS = 0.5
REPORT_SECONDS = 60.0
FORGOTTEN_SECONDS = 3600.0

T = TypeVar("T")


class Trimmer:
    """Trims one shard. ``server`` must return raw ranges (worker.retention.pages)."""

    def __init__(
        self,
        server: Redis,
        shard: Shard,
        retention: RetentionPolicy,
        archive: Archive | None,
        *,
        poll_seconds: float = POLL_SECONDS,
        lease_ms: int = LEASE_MS,
        clock: Callable[[], float] = time.monotonic,
        watch: ShardWatch | None = None,
    ) -> None:
        self._server = server
        self._watch = watch
        self._shard = shard
        self._retention = retention
        self._archive = archive
        self._poll_seconds = poll_seconds
        self._lease = Lease(server, shard.trimmer, lease_ms)
        self._floor = AckFloor(server, shard)
        self._losses = LossDetector()
        self._beats: dict[str, Mapping[bytes, bytes]] = {}
        self._throttle = LogThrottle(1, clock, seconds=REPORT_SECONDS)

    async def run(self, stop: asyncio.Event) -> None:
        """Trim at regular intervals until ``stop``."""
        while not stop.is_set():
            try:
                await self.run_once(stop)
            except ArchiveFailed as exc:
                self._fail("archive", str(exc))
            except RedisError as exc:
                self._fail(name_error(exc), "Redis")
            await wait_for(stop, self._poll_seconds)
        with suppress(RedisError):  # the lease then expires
            await self._lease.leave()

    async def run_once(self, stop: asyncio.Event) -> None:
        """Trim all entries that are due, if this process holds the lease. Raises ArchiveFailed or RedisError."""
        if not await self._lease.take():
            self._losses.forget()
            for gauge in (STREAM_ENTRIES, STREAM_BYTES):
                gauge.remove(self._shard.number)
            self._clear_blocking_groups()
            return
        survey = await self._survey()
        others = await self._measure_others(survey)
        self._report_missing(survey)
        if survey.recorded != survey.account:
            await self._floor.record(self._lease.token, survey)
        while (due := self._retention.due(survey, others)) and not stop.is_set():
            if not await self._remove(due, stop):
                break
            survey = await self._survey()
        await self._report_blocking_groups(survey, others)

    async def _measure_others(self, survey: Survey) -> OtherShards:
        """Measure the other shards if this one may be too large. Else they count as large, which changes nothing."""
        if self._watch is None:
            return ALONE
        used = self._watch.layout.used
        others = [shard for shard in self._watch.shards if shard != self._shard]
        largest = OtherShards(len(others), sys.maxsize)
        if not self._retention.is_too_large(survey, largest):
            return largest
        if self._retention.most_bytes is None and survey.maxmemory:  # the limit is a part of the node's memory
            nodes = await find_nodes(self._server, [shard.stream for shard in self._watch.shards])
            others = [shard for shard in others if nodes[shard.stream] == nodes[self._shard.stream]]
        async with self._server.pipeline(transaction=False) as pipe:
            for shard in others:
                pipe.xlen(shard.stream)
                pipe.memory_usage(shard.stream, samples=SAMPLES)
            try:
                replies: list[Any] = await pipe.execute()
            except RedisError as exc:
                if not (is_cluster(self._server) and is_lost(exc)):
                    raise
                return OtherShards(len(others), 0)  # a node is away; age and this shard's own size still count
        sizes = [size or 0 if length else 0 for length, size in zip(replies[::2], replies[1::2], strict=True)]
        number = sum(shard.number < used or size > 0 for shard, size in zip(others, sizes, strict=True))
        return OtherShards(number, sum(sizes))

    async def _remove(self, due: Due, stop: asyncio.Event) -> int:
        """Remove some of the due entries. Return their number, 0 if no more can be removed now."""
        if self._archive is None:
            limit = STEP_ENTRIES * STEPS_AT_ONCE
            return await self._trim(due.before, limit if due.entries is None else min(limit, due.entries), stop)
        removed = 0
        for last in await self._write_archive(self._archive, due, stop):
            removed += await self._step(last.after(), None)
        return removed

    async def _write_archive(self, archive: Archive, due: Due, stop: asyncio.Event) -> list[EntryId]:
        """Write one file of due entries. Return the last entry of each step in which they are to go."""
        if archive.is_resting(self._shard):
            return []
        with archive.draft(self._shard) as draft:
            ends = await self._fill(draft, due, archive.file_bytes, stop)
            if not ends or stop.is_set():
                return []
            file = await _run_in_thread(archive.finish, draft)
        ARCHIVED.inc(draft.entries)
        log.info("retention.archived", file=file, entries=draft.entries)
        return ends

    async def _trim(self, before: EntryId, entries: int, stop: asyncio.Event) -> int:
        remaining = entries
        while remaining > 0 and not stop.is_set():
            removed = await self._step(before, min(remaining, STEP_ENTRIES))
            if not removed:
                break
            remaining -= removed
        return entries - remaining

    async def _step(self, before: EntryId, limit: int | None) -> int:
        step = self._floor.trim(self._lease.token, self._lease.lease_ms, before, limit=limit)
        removed = await _run_paced(step)
        if removed:
            TRIMMED.inc(removed)
            LAST_TRIM.set_to_current_time()
        return removed or 0

    async def _fill(self, draft: ArchiveDraft, due: Due, most_bytes: int, stop: asyncio.Event) -> list[EntryId]:
        """Read due entries into the draft."""
        ends: list[EntryId] = []
        after, count, limit = "", FIRST_PAGE_ENTRIES, due.entries or sys.maxsize
        while draft.bytes < most_bytes and draft.entries < limit and not stop.is_set():
            page = await _run_paced(self._add_page(draft, after, due.before.redis, min(count, limit - draft.entries)))
            if not page:
                break
            ends.append(EntryId.from_redis(self._shard.number, page[-1][0]))
            after, count = ends[-1].redis, next_page_size(draft.entries, draft.bytes)
        return ends[::-STEP_PAGES][::-1]

    async def _add_page(self, draft: ArchiveDraft, after: str, before: str, count: int) -> list[RawEntry]:
        page = await read_page(self._server, self._shard.stream, after, before, count)
        if page:
            await _run_in_thread(draft.add, page)
        return page

    async def _survey(self) -> Survey:
        survey = await self._floor.survey()
        STREAM_ENTRIES.labels(survey.shard).set(survey.length)
        STREAM_BYTES.labels(survey.shard).set(survey.stream_bytes)
        return survey

    def _report_missing(self, survey: Survey) -> None:
        missing = self._losses.count_missing(survey.account, survey.recorded)
        if missing:
            MISSING.inc(missing)
            first = survey.first
            groups = [group.name for group in survey.groups if first is None or group.floor < first]
            log.error("retention.missing", entries=missing, groups_that_may_lack_them=groups)

    async def _report_blocking_groups(self, survey: Survey, others: OtherShards) -> None:
        """Report the groups that block trimming: in gauges each time, and in the log once a minute."""
        groups = list(self._retention.find_blocking_groups(survey, others))
        self._clear_blocking_groups()
        for group in groups:  # without an await, so that a scrape sees all groups
            labels = group.name, str(self._shard.number)
            RETENTION_BLOCKED_ENTRIES.labels(*labels).set(group.count_unsettled(survey.length))
            RETENTION_BLOCKED_SECONDS.labels(*labels).set(survey.oldest_unsettled_seconds(group))
        for group in groups:
            if self._throttle.admit(("blocking", group.name)) is not None:
                log.warning(
                    "retention.blocked",
                    group=group.name,
                    entries=group.count_unsettled(survey.length),
                    oldest_seconds=survey.oldest_unsettled_seconds(group),
                    stream_bytes=survey.stream_bytes,
                    forgotten=await self._is_forgotten(group),
                )

    def _clear_blocking_groups(self) -> None:
        for gauge in (RETENTION_BLOCKED_ENTRIES, RETENTION_BLOCKED_SECONDS):
            for labels in [sample.labels for metric in gauge.collect() for sample in metric.samples]:
                if labels["shard"] == str(self._shard.number):
                    gauge.remove(labels["group"], labels["shard"])

    async def _is_forgotten(self, group: GroupPosition) -> bool:
        """Whether no worker reads the group: no heartbeat since the last report, and no idle time under an hour."""
        beats: Any = await self._server.hgetall(self._shard.alive(group.name))
        before = self._beats.get(group.name, dict.fromkeys(beats, b""))
        self._beats[group.name] = beats
        if any(before.get(name) != beat for name, beat in beats.items()):
            return False
        consumers: Any = await self._server.xinfo_consumers(self._shard.stream, group.name) if group.exists else []
        return all(consumer["idle"] >= FORGOTTEN_SECONDS * 1000 for consumer in consumers)

    def _fail(self, error: str, what: str) -> None:
        TRIM_FAILURES.labels(error).inc()
        if self._throttle.admit(("failed", error)) is not None:
            log.warning("retention.failed", error=error, what=what)


@asynccontextmanager
async def run_trimmer(settings: RetentionSettings, watch: ShardWatch, stop: asyncio.Event) -> AsyncIterator[None]:
    """Run a trimmer for each shard; they end after ``stop``. Raises CommandError if the archive is unusable."""
    if settings.retention_ms is None:
        yield
        return
    if settings.archive:
        Archive(settings.archive).prepare()
    retention = RetentionPolicy(settings.retention_ms, settings.retention_bytes, together=settings.archive is not None)
    async with raw_ranges(client(settings.redis_url)) as server, asyncio.TaskGroup() as tasks:
        trimmers: list[asyncio.Task[None]] = []

        def start(shard: Shard) -> None:
            archive = Archive(settings.archive) if settings.archive else None  # each rests after its own small file
            trimmers.append(tasks.create_task(Trimmer(server, shard, retention, archive, watch=watch).run(stop)))

        with watch.start_each(start):
            yield
        await asyncio.wait(trimmers, timeout=STOP_SECONDS)
        await cancel_and_wait(trimmers)


async def _run_paced(step: Awaitable[T]) -> T:
    """Run a step and then pause, so that other clients get their turn."""
    started = time.perf_counter()
    result = await step
    pause = PAUSE_TIMES * (time.perf_counter() - started)
    await asyncio.sleep(min(max(pause, PAUSE_SECONDS), PAUSE_MOST_SECONDS))
    return result


async def _run_in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Run a function that waits for the disk in a thread. Return only after it has ended, also when cancelled."""
    future = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(future)
    finally:
        if not future.done():
            await asyncio.wait([future])
