"""Copies the entries of one replay: reads stored entries, and copies those that match to the group, at the rate.

The copier ends when all entries are copied, when an operator pauses or cancels the replay, or when another process
copies for it. Its progress is in Redis, so the next process that takes the lease continues from the cursor.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import structlog

from runtime.tasks import wait_for
from stream.entry import EntryId
from worker.group.group_ref import GroupRef
from worker.group.lease import Lease
from worker.metrics import REPLAYED
from worker.replay.entry_reader import Page, Pages, Span, Stored, read_archive_and_stream, read_stream
from worker.replay.job import Place, Progress, Replay, State
from worker.replay.rate_limiter import RateLimiter
from worker.replay.repository import NoRoom, ReplayCopy, Replays, Superseded
from worker.retention.archive_reader import ArchiveDamaged

log = structlog.get_logger("replay")

COPIES_AT_ONCE = 250
TICK_SECONDS = 0.02
ROOM_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 1.0
RATE_SECONDS = 1.0
PAUSE_MOST_SECONDS = 0.05

MOST_NOTED = 1000
"""The history notes each success of a replay of up to this many entries; those of a large one would fill it."""

_ATTEMPT_FIELDS = (b"attempt", b"message", b"errors", b"failed_ms", b"first_failed_ms", b"noted")
"""A copy lacks these fields, so its attempts start at the first. It has all other fields, also unknown ones."""


@dataclass(frozen=True, slots=True)
class Step:
    """An id of a stored entry, and the copies to make of the entries with this id."""

    id: EntryId
    copies: tuple[ReplayCopy, ...]


class Copier:
    """Copies for one replay. The caller holds the lease."""

    def __init__(
        self, group: GroupRef, replays: Replays, progress: Progress, lease: Lease, archive: Path | None
    ) -> None:
        self._server = group.server
        self._shard = group.shard
        self._dead = group.dead
        self._replays = replays
        self._progress = progress
        self._replay = progress.replay
        self._lease = lease
        self._archive = archive
        self._cursor = progress.cursor
        self._rate, self._rate_read_at = progress.rate, time.monotonic()
        self._limiter = RateLimiter(progress.rate, time.monotonic)
        self._replayed = REPLAYED.labels(self._replay.group)
        self._done = progress.done

    async def run(self, stop: asyncio.Event) -> None:
        """Copy until the replay is done, stopped or taken over. Raises RedisError; another copier may then continue."""
        self._log("replay.copying")
        try:
            async with aclosing(self._pages()) as pages:
                async for page in pages:
                    await self._copy_page(page, stop)
                    if stop.is_set():
                        return
            await self._step([], self._end, last=True)
        except Superseded:
            self._log("replay.stopped")
        except ArchiveDamaged as exc:
            await self._fail(str(exc))
        else:
            self._log("replay.done")

    async def _copy_page(self, page: Page, stop: asyncio.Event) -> None:
        started = time.perf_counter()
        steps = plan_steps(self._replay, page)
        plan_seconds = time.perf_counter() - started
        while steps and not stop.is_set():
            await self._follow_rate()
            batch, steps = split_steps(steps, min(self._limiter.count_due(), COPIES_AT_ONCE))
            if not batch:
                await self._wait(max(self._limiter.seconds_until_next(), TICK_SECONDS), stop)
                continue
            try:
                await self._step([copy for step in batch for copy in step.copies], batch[-1].id)
            except NoRoom:
                steps = [*batch, *steps]
                await self._wait(ROOM_SECONDS, stop)
        await asyncio.sleep(min(plan_seconds, PAUSE_MOST_SECONDS))  # leaves half of the time of the loop to handlers

    async def _follow_rate(self) -> None:
        """Adopt the rate that an operator has set; it is read every RATE_SECONDS."""
        if time.monotonic() - self._rate_read_at < RATE_SECONDS:
            return
        rate, self._rate_read_at = await self._replays.read_rate(self._replay), time.monotonic()
        if rate != self._rate:
            self._rate, self._limiter = rate, RateLimiter(rate, time.monotonic)
            log.info("replay.rate", replay=self._replay.id, group=self._replay.group, rate=rate)

    async def _step(self, copies: Sequence[ReplayCopy], cursor: EntryId, *, last: bool = False) -> None:
        copied = await self._replays.copy(self._replay, self._lease, (self._cursor, cursor), copies, last=last)
        self._cursor = cursor
        self._limiter.record(len(copies))
        self._done += copied
        self._replayed.inc(copied)

    async def _wait(self, seconds: float, stop: asyncio.Event) -> None:
        """Wait, and extend the lease. Raises Superseded if another process holds it."""
        await wait_for(stop, min(seconds, LONGEST_WAIT_SECONDS))
        if seconds > TICK_SECONDS and not await self._lease.take():
            raise Superseded

    async def _fail(self, why: str) -> None:
        await self._replays.change_state(self._replay, State.FAILED, allowed=[State.RUNNING], error=why)
        log.error("replay.failed", replay=self._replay.id, group=self._replay.group, error=why)

    def _pages(self) -> Pages:
        span, stream = Span(self._cursor, self._end), self._shard.stream
        ids = self._replay.selection.ids
        if self._replay.place is Place.DEAD:
            return read_stream(self._server, self._dead, span, ids)
        if self._replay.place is Place.ARCHIVE and self._archive is not None:
            received = self._replay.selection.received_span
            return read_archive_and_stream(self._server, stream, self._archive, span, self._progress.boundary, received)
        return read_stream(self._server, stream, span, ids)

    @property
    def _end(self) -> EntryId:
        return max(self._cursor, EntryId.from_redis(self._shard.number, self._replay.end))

    def _log(self, event: str) -> None:
        replay = self._replay
        log.info(event, replay=replay.id, group=replay.group, scope=replay.scope, done=self._done, total=replay.total)


def plan_steps(replay: Replay, page: Page) -> list[Step]:
    """Return a step for each id of the page, in their order."""
    steps: list[Step] = []
    dead = replay.place is Place.DEAD
    for stored in page:
        copies = (_make_copy(replay, stored),) if replay.selection.matches(stored.id, stored.fields, dead=dead) else ()
        if steps and steps[-1].id == stored.id:
            steps[-1] = Step(stored.id, steps[-1].copies + copies)
        else:
            steps.append(Step(stored.id, copies))
    return steps


def split_steps(steps: list[Step], limit: int) -> tuple[list[Step], list[Step]]:
    """Split off the first steps with at most ``limit`` copies; return them and the rest.

    A step is never divided, so the first one may exceed a limit above 0.
    """
    copies = 0
    for place, step in enumerate(steps):
        copies += len(step.copies)
        if copies > limit and (place or not limit):
            return steps[:place], steps[place:]
    return steps, []


def _make_copy(replay: Replay, stored: Stored) -> ReplayCopy:
    fields = {name: value for name, value in stored.fields.items() if name not in _ATTEMPT_FIELDS}
    fields.setdefault(b"origin", str(stored.id).encode())
    fields[b"replay"] = replay.id.encode()
    if replay.total <= MOST_NOTED:
        fields[b"noted"] = b"1"
    return ReplayCopy(stored.id, fields)
