"""Count planned replays in the background: a plan over millions of entries takes minutes, and a page must not wait."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from console.queries.replays import ReplayPlan, ReplayRequest, check_group, count_entries
from runtime.errors import CommandError
from runtime.tasks import cancel_and_wait
from stream.entry import EntryId
from stream.keys import Shard
from worker.replay.job import Place

WAIT_SECONDS = 0.3
"""A page waits this long for a plan; most are complete by then."""
FRESH_SECONDS = 60.0
"""A complete plan is shown for this long without another count."""
UNSEEN_SECONDS = 300.0
"""A count that no page has looked at for this long ends."""
RECOUNT_SECONDS = 5.0
MOST_RUNNING = 3
MOST_KEPT = 20
BREATH_SECONDS = 0.05


class TooManyPlans(CommandError):  # noqa: N818 - named for what is wrong
    """MOST_RUNNING plans are being counted."""


@dataclass(slots=True)
class PlanCount:
    """The count of one request, so far or complete."""

    request: ReplayRequest
    length: int | None
    """The entries of the source when the count started, for the progress; None if they are not known (the archive)."""
    deleted_id: bytes | None
    """The greatest id that was deleted from the stream before the count; None without a stream."""
    plan: ReplayPlan = field(default_factory=ReplayPlan)
    counted_at: float | None = None
    """When the count was complete, in Unix seconds."""
    seen: float = field(default_factory=time.monotonic)
    ended: float | None = None
    task: "asyncio.Task[None] | None" = None

    @property
    def is_running(self) -> bool:
        """Whether the count is not complete."""
        return self.task is not None and not self.task.done()

    @property
    def is_fresh(self) -> bool:
        """Whether the count runs, or was completed lately."""
        return self.ended is None or time.monotonic() - self.ended < FRESH_SECONDS


class PlanBoard:
    """The plans that the pages of a console look at."""

    def __init__(self, server: Redis) -> None:
        self._server = server
        self._counts: dict[ReplayRequest, PlanCount] = {}

    async def find(self, request: ReplayRequest, *, seconds: float = WAIT_SECONDS, again: bool = False) -> PlanCount:
        """Return the count of a request, which starts now if needed; waits up to ``seconds`` for its end.

        Raises CommandError for an unknown group or a bad archive, TooManyPlans, and RedisError.
        """
        key = _key(request)
        count = self._counts.get(key)
        if count is None or (again and not count.is_running) or not count.is_fresh:
            count = self._counts[key] = await self._start(key)
        count.seen = time.monotonic()
        assert count.task is not None  # noqa: S101 - every count on the board has its task
        await asyncio.wait([count.task], timeout=seconds)
        if count.task.done():
            self._raise_fault(key, count.task)
        return count

    def recall(self, request: ReplayRequest) -> PlanCount | None:
        """Return the complete count that a page has shown, however old; None without one."""
        count = self._counts.get(_key(request))
        return count if count is not None and count.ended is not None else None

    async def is_current(self, count: PlanCount) -> bool:
        """Whether a replay would still copy exactly the counted entries. False if that takes long to find out."""
        plan = count.plan
        if plan.span is None:
            return False
        if count.request.place is not Place.DEAD and await self._is_untouched(count):
            return True
        recount = ReplayPlan()
        with suppress(TimeoutError):
            async with asyncio.timeout(RECOUNT_SECONDS):
                async for _ in count_entries(self._server, count.request, recount, plan.span[1]):
                    pass
                return recount.entries == plan.entries
        return False

    async def close(self) -> None:
        """Stop all counts."""
        tasks = [count.task for count in self._counts.values() if count.task is not None]
        self._counts.clear()
        await cancel_and_wait(tasks)

    async def _start(self, key: ReplayRequest) -> PlanCount:
        running = {_choice(request) for request, count in self._counts.items() if count.is_running}
        if len(running - {_choice(key)}) >= MOST_RUNNING:
            raise TooManyPlans(f"{MOST_RUNNING} replays are being counted: try again when one of them is complete")
        await check_group(self._server, key.shard, key.group)
        count = PlanCount(key, *await self._measure(key))
        count.task = asyncio.create_task(self._run(count))
        for old in sorted(self._counts, key=lambda request: self._counts[request].seen)[: -MOST_KEPT + 1]:
            if not self._counts[old].is_running:
                del self._counts[old]
        return count

    async def _run(self, count: PlanCount) -> None:
        started = time.perf_counter()
        async for _ in count_entries(self._server, count.request, count.plan):
            if time.monotonic() - count.seen > UNSEEN_SECONDS:
                self._counts.pop(_key(count.request), None)
                return
            await asyncio.sleep(min(time.perf_counter() - started, BREATH_SECONDS))  # leaves time to other requests
            started = time.perf_counter()
        count.counted_at, count.ended = time.time(), time.monotonic()

    def _raise_fault(self, key: ReplayRequest, task: "asyncio.Task[None]") -> None:
        if (fault := task.exception()) is not None:
            self._counts.pop(key, None)
            raise fault

    async def _measure(self, request: ReplayRequest) -> tuple[int | None, bytes | None]:
        if request.place is Place.DEAD:
            return await self._server.xlen(request.shard.dead(request.group or "")), None
        stream = await self._read_stream(request)
        length = None if request.place is Place.ARCHIVE else stream["length"] if stream else 0
        return length, stream.get("max-deleted-entry-id") if stream else None

    async def _is_untouched(self, count: PlanCount) -> bool:
        """Whether no entry of the plan was trimmed or deleted, without another count."""
        stream = await self._read_stream(count.request)
        if stream is None or count.deleted_id is None or stream.get("max-deleted-entry-id") != count.deleted_id:
            return False
        first, span = stream["first-entry"], count.plan.span
        if count.request.place is Place.ARCHIVE:
            return True  # trimmed entries are in the archive
        if first is None or span is None:
            return False
        return EntryId.from_redis(count.request.shard.number, first[0]) <= span[0]

    async def _read_stream(self, request: ReplayRequest) -> dict[str, Any] | None:
        try:
            stream: Any = await self._server.xinfo_stream(request.shard.stream)
        except ResponseError:
            if not await self._server.exists(request.shard.stream):
                return None
            raise
        return stream  # type: ignore[no-any-return]


@asynccontextmanager
async def open_plans(server: Redis) -> AsyncIterator[PlanBoard]:
    """Open a board; its counts stop at the end."""
    board = PlanBoard(server)
    try:
        yield board
    finally:
        await board.close()


def _choice(request: ReplayRequest) -> ReplayRequest:
    """Return the same request for every shard: the counts of all shards are one plan."""
    return replace(request, shard=Shard(request.shard.name))


def _key(request: ReplayRequest) -> ReplayRequest:
    """Return the request without the rate, which changes no count."""
    return replace(request, rate=1.0)
