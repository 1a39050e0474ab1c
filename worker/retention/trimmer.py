"""The trimmer: takes from the stream what retention no longer wants, in steps too small to disturb anybody.

Any number of workers run it; the one that holds the lease does the work. With an archive, what is to go is first read
and written there, and then exactly this is removed. What fails, Redis or the archive's disk, is tried again later.
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
from worker.retention.ack_floor import AckFloor, GroupPosition, Survey
from worker.retention.archive_writer import Archive, ArchiveDraft, ArchiveFailed
from worker.retention.loss_detector import LossDetector
from worker.retention.pages import FIRST_PAGE_ENTRIES, PAGE_ENTRIES, RawEntry, next_page_size, raw_ranges, read_page
from worker.retention.policy import Due, RetentionPolicy
from worker.retention.settings import RetentionSettings

log = structlog.get_logger("retention")

LOOK_SECONDS = 5.0
LEASE_MS = 60_000
STEP_ENTRIES = 1000
STEPS_AT_ONCE = 50
STEP_PAGES = STEP_ENTRIES // PAGE_ENTRIES
PAUSE_SECONDS = 0.002
PAUSE_TIMES = 3.0  # as long as the step took: three quarters of the server's time are for others
PAUSE_MOST_SECONDS = 0.05
STOP_SECONDS = 0.5
REPORT_SECONDS = 60.0
FORGOTTEN_SECONDS = 3600.0

T = TypeVar("T")


class Trimmer:
    """Trims one shard. ``server`` gives raw ranges (worker.retention.pages)."""

    def __init__(
        self,
        server: Redis,
        shard: Shard,
        retention: RetentionPolicy,
        archive: Archive | None,
        *,
        look_seconds: float = LOOK_SECONDS,
        lease_ms: int = LEASE_MS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._shard = shard
        self._retention = retention
        self._archive = archive
        self._look_seconds = look_seconds
        self._lease = Lease(server, shard.trimmer, lease_ms)
        self._floor = AckFloor(server, shard)
        self._losses = LossDetector()
        self._beats: dict[str, Mapping[bytes, bytes]] = {}
        self._throttle = LogThrottle(1, clock, seconds=REPORT_SECONDS)

    async def run(self, stop: asyncio.Event) -> None:
        """Look and trim again and again until ``stop``."""
        while not stop.is_set():
            try:
                await self.look(stop)
            except ArchiveFailed as exc:
                self._fail("archive", str(exc))
            except RedisError as exc:
                self._fail(name_error(exc), "Redis")
            await wait_for(stop, self._look_seconds)
        with suppress(RedisError):  # then the lease ends by itself
            await self._lease.leave()

    async def look(self, stop: asyncio.Event) -> None:
        """Trim all that is due, if this process holds the lease. Raises ArchiveFailed or RedisError."""
        if not await self._lease.take():
            self._losses.forget()
            for gauge in (RETENTION_BLOCKED_ENTRIES, RETENTION_BLOCKED_SECONDS, STREAM_ENTRIES, STREAM_BYTES):
                gauge.clear()
            return
        survey = await self._survey()
        self._report_missing(survey)
        if survey.recorded != survey.account:
            await self._floor.record(self._lease.token, survey.account)
        while (due := self._retention.due(survey)) and not stop.is_set():
            if not await self._remove(due, stop):
                break
            survey = await self._survey()
        await self._report_blocking(survey)

    async def _remove(self, due: Due, stop: asyncio.Event) -> int:
        """Remove a part of what is due; returns how many entries, 0 if no more can go now."""
        if self._archive is None:
            most = STEP_ENTRIES * STEPS_AT_ONCE
            return await self._trim(due.before, most if due.entries is None else min(most, due.entries), stop)
        removed = 0
        for archived in await self._archived(self._archive, due, stop):
            removed += await self._step(archived.after(), None)
        return removed

    async def _archived(self, archive: Archive, due: Due, stop: asyncio.Event) -> list[EntryId]:
        """Archive a file's worth of what is due; returns where each step of removing it ends."""
        if archive.is_resting:
            return []
        with archive.draft(self._shard) as draft:
            ends = await self._fill(draft, due, archive.file_bytes, stop)
            if not ends or stop.is_set():
                return []
            file = await _in_thread(archive.finish, draft)
        ARCHIVED.inc(draft.entries)
        log.info("retention.archived", file=file, entries=draft.entries)
        return ends

    async def _trim(self, before: EntryId, entries: int, stop: asyncio.Event) -> int:
        left = entries
        while left > 0 and not stop.is_set():
            removed = await self._step(before, min(left, STEP_ENTRIES))
            if not removed:
                break
            left -= removed
        return entries - left

    async def _step(self, before: EntryId, most: int | None) -> int:
        step = self._floor.trim(self._lease.token, self._lease.lease_ms, before, most=most)
        removed = await _paced(step)
        if removed:
            TRIMMED.inc(removed)
            LAST_TRIM.set_to_current_time()
        return removed or 0

    async def _fill(self, draft: ArchiveDraft, due: Due, most_bytes: int, stop: asyncio.Event) -> list[EntryId]:
        """Read what is due into the draft."""
        ends: list[EntryId] = []
        after, count, most = "", FIRST_PAGE_ENTRIES, due.entries or sys.maxsize
        while draft.bytes < most_bytes and draft.entries < most and not stop.is_set():
            page = await _paced(self._add_page(draft, after, due.before.redis, min(count, most - draft.entries)))
            if not page:
                break
            ends.append(EntryId.from_redis(self._shard.number, page[-1][0]))
            after, count = ends[-1].redis, next_page_size(draft.entries, draft.bytes)
        return ends[::-STEP_PAGES][::-1]

    async def _add_page(self, draft: ArchiveDraft, after: str, before: str, count: int) -> list[RawEntry]:
        page = await read_page(self._server, self._shard.stream, after, before, count)
        if page:
            await _in_thread(draft.add, page)
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

    async def _report_blocking(self, survey: Survey) -> None:
        """Report the groups that keep more than retention wants: by gauges at each look, by a line once a minute."""
        groups = list(self._retention.find_blocking_groups(survey))
        RETENTION_BLOCKED_ENTRIES.clear()
        RETENTION_BLOCKED_SECONDS.clear()
        for group in groups:  # without a pause, so that no scrape sees a part of them
            RETENTION_BLOCKED_ENTRIES.labels(group.name).set(group.count_unsettled(survey.length))
            RETENTION_BLOCKED_SECONDS.labels(group.name).set(survey.oldest_unsettled_seconds(group))
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

    async def _is_forgotten(self, group: GroupPosition) -> bool:
        """Whether nobody reads the group: no heartbeat has moved since the last line, no consumer came for an hour."""
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
async def run_trimmer(settings: RetentionSettings, stop: asyncio.Event) -> AsyncIterator[None]:
    """Trim beside the block, which ends soon after ``stop``. Raises Refusal if the archive cannot be used."""
    if settings.retention_ms is None:
        yield
        return
    archive = Archive(settings.archive) if settings.archive else None
    if archive:
        archive.prepare()
    retention = RetentionPolicy(settings.retention_ms, settings.retention_bytes, together=archive is not None)
    async with raw_ranges(client(settings.redis_url)) as server, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(Trimmer(server, settings.shard, retention, archive).run(stop))
        yield
        await asyncio.wait([running], timeout=STOP_SECONDS)
        await cancel_and_wait([running])


async def _paced(step: Awaitable[T]) -> T:
    """Take a step and then a pause, for the others."""
    began = time.perf_counter()
    result = await step
    pause = PAUSE_TIMES * (time.perf_counter() - began)
    await asyncio.sleep(min(max(pause, PAUSE_SECONDS), PAUSE_MOST_SECONDS))
    return result


async def _in_thread(act: Callable[..., T], *arguments: object) -> T:
    """Run this, which waits for the disk, in a thread; also when cancelled, return only when it has ended."""
    acting = asyncio.ensure_future(asyncio.to_thread(act, *arguments))
    try:
        return await asyncio.shield(acting)
    finally:
        if not acting.done():
            await asyncio.wait([acting])
