"""Starts a copier for each replay of the groups of a worker that no other process copies for, on each shard."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from redis.exceptions import RedisError

from runtime.log_throttle import LogThrottle
from runtime.tasks import cancel_and_wait, wait_for
from stream.keys import Shard
from stream.redis.client import client, name_error
from stream.shard_watch import ShardWatch
from worker.group.group_ref import GroupRef
from worker.group.lease import Lease
from worker.metrics import REPLAY_FAILURES, REPLAY_UNREAD
from worker.replay.copier import Copier
from worker.replay.job import Place, Progress, State
from worker.replay.repository import Replays
from worker.settings import WorkerSettings

log = structlog.get_logger("replay")

POLL_SECONDS = 1.0
LEASE_MS = 5000
STOP_SECONDS = 0.5
REPORT_SECONDS = 60.0


class ReplayScheduler:
    """Polls the replays of one group on one shard, and runs a copier for each in a task of its own."""

    def __init__(
        self,
        group: GroupRef,
        archive: Path | None,
        *,
        poll_seconds: float = POLL_SECONDS,
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._group = group
        self._archive = archive
        self._poll_seconds = poll_seconds
        self._lease_ms = lease_ms
        self._replays = Replays(group)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._throttle = LogThrottle(1, seconds=REPORT_SECONDS)
        self._unread = REPLAY_UNREAD.labels(group.name, str(group.shard.number))

    @property
    def copiers(self) -> list[asyncio.Task[None]]:
        """The tasks of the running copiers; they end soon after ``stop``."""
        return list(self._tasks.values())

    async def run(self, stop: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        """Poll until ``stop``, and start the copiers in ``tasks``."""
        while not stop.is_set():
            try:
                await self._poll(stop, tasks)
            except RedisError as exc:
                self._fail(exc)
            await wait_for(stop, self._poll_seconds)

    async def _poll(self, stop: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        self._unread.set(await self._group.server.xlen(self._group.replay))
        for progress in await self._replays.all():
            replay_id = progress.replay.id
            if progress.state is not State.RUNNING or replay_id in self._tasks or not self._can_reach(progress):
                continue
            lease = Lease(self._group.server, self._group.shard.copying(self._group.name, replay_id), self._lease_ms)
            if await lease.take():
                self._tasks[replay_id] = tasks.create_task(self._copy(progress, lease, stop))

    async def _copy(self, progress: Progress, lease: Lease, stop: asyncio.Event) -> None:
        """Run a copier to its end. After an error the next poll starts it again."""
        try:
            await Copier(self._group, self._replays, progress, lease, self._archive).run(stop)
            await lease.leave()
        except (RedisError, OSError) as exc:  # OSError: the disk of the archive
            self._fail(exc)
        finally:
            del self._tasks[progress.replay.id]

    def _can_reach(self, progress: Progress) -> bool:
        """Whether this worker can read the source of the replay."""
        if progress.replay.place is not Place.ARCHIVE or self._archive is not None:
            return True
        if self._throttle.admit(progress.replay.id) is not None:
            log.warning("replay.skipped", replay=progress.replay.id, why="this worker has no ACKSTREAM_ARCHIVE")
        return False

    def _fail(self, exc: Exception) -> None:
        REPLAY_FAILURES.labels(self._group.name, name_error(exc)).inc()
        if self._throttle.admit(name_error(exc)) is not None:
            log.warning("replay.interrupted", group=self._group.name, error=name_error(exc))


@asynccontextmanager
async def run_replays(
    settings: WorkerSettings, groups: Collection[str], watch: ShardWatch, stop: asyncio.Event
) -> AsyncIterator[None]:
    """Run the replays of these groups in the background; they end soon after ``stop``."""
    async with client(settings.redis_url) as server, asyncio.TaskGroup() as tasks:
        schedulers: list[ReplayScheduler] = []
        loops: list[asyncio.Task[None]] = []

        def start(shard: Shard) -> None:
            started = [ReplayScheduler(GroupRef(server, shard, name), settings.archive) for name in groups]
            schedulers.extend(started)
            loops.extend(tasks.create_task(scheduler.run(stop, tasks)) for scheduler in started)

        try:
            with watch.start_each(start):
                yield
            await asyncio.wait([*loops, *_copiers(schedulers)], timeout=STOP_SECONDS)
        finally:
            await cancel_and_wait(loops)
            await cancel_and_wait(_copiers(schedulers))


def _copiers(schedulers: Sequence[ReplayScheduler]) -> list[asyncio.Task[None]]:
    return [task for scheduler in schedulers for task in scheduler.copiers]
