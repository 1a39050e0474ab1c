"""The copying of one replay: look at what is stored, give the group those entries again that are meant, at the rate.

It ends when all is copied, when somebody pauses or cancels the replay, or when another process copies for it. Nothing
of where it is stands here alone: whoever takes the lease next goes on from the cursor.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import structlog
from redis.asyncio import Redis

from runtime.tasks import wait_for
from stream.entry import EntryId
from stream.keys import Shard
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
PAUSE_MOST_SECONDS = 0.05

_OF_ATTEMPTS = (b"attempt", b"message", b"errors", b"failed_ms", b"first_failed_ms")
"""What a copy leaves behind: its attempts start with the first. All other fields stay, unknown ones included."""


@dataclass(frozen=True, slots=True)
class Step:
    """An id that was looked at, and the copies to make of what stands there."""

    id: EntryId
    copies: tuple[ReplayCopy, ...]


class Copier:
    """Copies for one replay. The lease is taken already."""

    def __init__(
        self, server: Redis, shard: Shard, replays: Replays, progress: Progress, lease: Lease, archive: Path | None
    ) -> None:
        self._server = server
        self._shard = shard
        self._replays = replays
        self._progress = progress
        self._replay = progress.replay
        self._lease = lease
        self._archive = archive
        self._cursor = progress.cursor
        self._pace = RateLimiter(self._replay.rate, time.monotonic)
        self._replayed = REPLAYED.labels(self._replay.group)
        self._done = progress.done

    async def run(self, stop: asyncio.Event) -> None:
        """Copy until it is done, is to stop, or is another's. Raises RedisError; then another copying may go on."""
        self._tell("replay.copying")
        try:
            async with aclosing(self._pages()) as pages:
                async for page in pages:
                    await self._copy_page(page, stop)
                    if stop.is_set():
                        return
            await self._step([], self._end, last=True)
        except Superseded:
            self._tell("replay.stopped")
        except ArchiveDamaged as exc:
            await self._fail(str(exc))
        else:
            self._tell("replay.done")

    async def _copy_page(self, page: Page, stop: asyncio.Event) -> None:
        began = time.perf_counter()
        steps = plan_steps(self._replay, page)
        looking_seconds = time.perf_counter() - began
        while steps and not stop.is_set():
            now, steps = split_steps(steps, min(self._pace.due(), COPIES_AT_ONCE))
            if not now:
                await self._wait(max(self._pace.seconds(), TICK_SECONDS), stop)
                continue
            try:
                await self._step([one for step in now for one in step.copies], now[-1].id)
            except NoRoom:
                steps = [*now, *steps]
                await self._wait(ROOM_SECONDS, stop)
        await asyncio.sleep(min(looking_seconds, PAUSE_MOST_SECONDS))  # half of the loop's time is for others

    async def _step(self, copies: Sequence[ReplayCopy], to_be: EntryId, *, last: bool = False) -> None:
        copied = await self._replays.copy(self._replay, self._lease, (self._cursor, to_be), copies, last=last)
        self._cursor = to_be
        self._pace.let(len(copies))
        self._done += copied
        self._replayed.inc(copied)

    async def _wait(self, seconds: float, stop: asyncio.Event) -> None:
        """Wait, but keep the lease. Raises Superseded if it is another's by now."""
        await wait_for(stop, min(seconds, LONGEST_WAIT_SECONDS))
        if seconds > TICK_SECONDS and not await self._lease.take():
            raise Superseded

    async def _fail(self, why: str) -> None:
        await self._replays.move(self._replay, State.FAILED, of=[State.RUNNING], error=why)
        log.error("replay.failed", replay=self._replay.id, group=self._replay.group, error=why)

    def _pages(self) -> Pages:
        span, stream = Span(self._cursor, self._end), self._shard.stream
        if self._replay.place is Place.DEAD:
            return read_stream(self._server, self._shard.dead(self._replay.group), span)
        if self._replay.place is Place.ARCHIVE and self._archive is not None:
            received = self._replay.selection.received_span
            return read_archive_and_stream(self._server, stream, self._archive, span, self._progress.boundary, received)
        return read_stream(self._server, stream, span)

    @property
    def _end(self) -> EntryId:
        return max(self._cursor, EntryId.from_redis(self._shard.number, self._replay.end))

    def _tell(self, event: str) -> None:
        one = self._replay
        log.info(event, replay=one.id, group=one.group, scope=one.scope, done=self._done, total=one.total)


def plan_steps(replay: Replay, page: Page) -> list[Step]:
    """Return what to do for each id of the page, in their order."""
    steps: list[Step] = []
    dead = replay.place is Place.DEAD
    for stored in page:
        copies = (_make_copy(replay, stored),) if replay.selection.matches(stored.id, stored.fields, dead=dead) else ()
        if steps and steps[-1].id == stored.id:
            steps[-1] = Step(stored.id, steps[-1].copies + copies)
        else:
            steps.append(Step(stored.id, copies))
    return steps


def split_steps(steps: list[Step], most: int) -> tuple[list[Step], list[Step]]:
    """Return the first steps that together make at most so many copies, and the rest.

    Of a step with several copies all are made together, so there may be more, if any may be made at all.
    """
    copies = 0
    for place, step in enumerate(steps):
        copies += len(step.copies)
        if copies > most and (place or not most):
            return steps[:place], steps[place:]
    return steps, []


def _make_copy(replay: Replay, stored: Stored) -> ReplayCopy:
    fields = {name: value for name, value in stored.fields.items() if name not in _OF_ATTEMPTS}
    fields.setdefault(b"origin", str(stored.id).encode())
    return ReplayCopy(stored.id, {**fields, b"replay": replay.id.encode()})
