"""ReplayScheduler: each worker looks for its groups' replays, and copies for those that no other process copies for."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime.log_throttle import LogThrottle
from runtime.tasks import cancel_and_wait, wait_for
from stream.keys import Shard
from stream.redis.client import client, name_error
from worker.group.lease import Lease
from worker.metrics import REPLAY_FAILURES, REPLAY_UNREAD
from worker.replay.copier import Copier
from worker.replay.job import Place, Progress, State
from worker.replay.repository import Replays
from worker.settings import WorkerSettings

log = structlog.get_logger("replay")

LOOK_SECONDS = 1.0
LEASE_MS = 5000
STOP_SECONDS = 0.5
REPORT_SECONDS = 60.0


class ReplayScheduler:
    """Looks for the replays of one group, and copies for them, each in a task of its own."""

    def __init__(
        self,
        server: Redis,
        shard: Shard,
        group: str,
        archive: Path | None,
        *,
        look_seconds: float = LOOK_SECONDS,
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._server = server
        self._shard = shard
        self._group = group
        self._archive = archive
        self._look_seconds = look_seconds
        self._lease_ms = lease_ms
        self._replays = Replays(server, shard, group)
        self._copying: dict[str, asyncio.Task[None]] = {}
        self._throttle = LogThrottle(1, seconds=REPORT_SECONDS)
        self._unread = REPLAY_UNREAD.labels(group)

    @property
    def copying(self) -> list[asyncio.Task[None]]:
        """The tasks that copy right now; they end soon after ``stop``."""
        return list(self._copying.values())

    async def run(self, stop: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        """Look again and again until ``stop``; what copies is begun among ``tasks``."""
        while not stop.is_set():
            try:
                await self._look(stop, tasks)
            except RedisError as exc:
                self._fail(exc)
            await wait_for(stop, self._look_seconds)

    async def _look(self, stop: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        self._unread.set(await self._server.xlen(self._shard.replay(self._group)))
        for progress in await self._replays.all():
            replay_id = progress.replay.id
            if progress.state is not State.RUNNING or replay_id in self._copying or not self._may(progress):
                continue
            lease = Lease(self._server, self._shard.copying(self._group, replay_id), self._lease_ms)
            if await lease.take():
                self._copying[replay_id] = tasks.create_task(self._copy(progress, lease, stop))

    async def _copy(self, progress: Progress, lease: Lease, stop: asyncio.Event) -> None:
        """Copy until that ends; what fails is begun again at the next look."""
        try:
            await Copier(self._server, self._shard, self._replays, progress, lease, self._archive).run(stop)
            await lease.leave()
        except (RedisError, OSError) as exc:  # OSError: the archive's disk
            self._fail(exc)
        finally:
            del self._copying[progress.replay.id]

    def _may(self, progress: Progress) -> bool:
        """Whether this worker can reach what the replay is of."""
        if progress.replay.place is not Place.ARCHIVE or self._archive is not None:
            return True
        if self._throttle.admit(progress.replay.id) is not None:
            log.warning("replay.skipped", replay=progress.replay.id, why="this worker has no ACKSTREAM_ARCHIVE")
        return False

    def _fail(self, exc: Exception) -> None:
        REPLAY_FAILURES.labels(self._group, name_error(exc)).inc()
        if self._throttle.admit(name_error(exc)) is not None:
            log.warning("replay.interrupted", group=self._group, error=name_error(exc))


@asynccontextmanager
async def run_replays(settings: WorkerSettings, groups: Iterable[str], stop: asyncio.Event) -> AsyncIterator[None]:
    """Copy for these groups' replays beside the block, which ends soon after ``stop``."""
    async with client(settings.redis_url) as server, asyncio.TaskGroup() as tasks:
        parts = [ReplayScheduler(server, settings.shard, group, settings.archive) for group in groups]
        running = [tasks.create_task(part.run(stop, tasks)) for part in parts]
        try:
            yield
            await asyncio.wait([*running, *_copying(parts)], timeout=STOP_SECONDS)
        finally:
            await cancel_and_wait(running)
            await cancel_and_wait(_copying(parts))


def _copying(parts: Sequence[ReplayScheduler]) -> list[asyncio.Task[None]]:
    return [task for part in parts for task in part.copying]
