"""Faults of servers and disks: Redis, the database, the disk of the spool."""

import asyncio
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from tests.chaos.checker.analysis import GROUPS
from tests.chaos.cluster.cluster import Cluster
from tests.chaos.cluster.mounts import fill
from tests.support.processes import Process, answer
from tests.support.waiting import until

FULL_BYTES = 1024 * 1024
ROOM = "1gb"
STREAM_BYTES = 1536 * 1024
"""More than the retention of the stream, so that trimming frees memory."""
FILL_SECONDS = 10.0
HEAL_SECONDS = 60.0
ALIVE_SECONDS = 45.0
LOOK_SECONDS = 0.1
OK = 200


@dataclass(slots=True)
class GroupDestroyed:
    """XGROUP DESTROY of one group or all."""

    groups: Sequence[str]

    @classmethod
    def from_rng(cls, rng: random.Random) -> "GroupDestroyed":
        return cls(rng.sample(GROUPS, rng.randint(1, len(GROUPS))))

    async def start(self, cluster: Cluster) -> None:
        for group in self.groups:
            await cluster.run_on_redis("XGROUP DESTROY", cluster.shard.stream, group)

    async def end(self, cluster: Cluster) -> None:
        pass

    def __str__(self) -> str:
        return " and ".join(self.groups)


@dataclass(slots=True)
class RedisFull:
    """Redis is over its maxmemory and refuses writes that need memory."""

    async def start(self, cluster: Cluster) -> None:
        await cluster.run_on_redis("CONFIG SET", "maxmemory", FULL_BYTES)

    async def end(self, cluster: Cluster) -> None:
        await cluster.run_on_redis("CONFIG SET", "maxmemory", ROOM)

    def __str__(self) -> str:
        return f"maxmemory {FULL_BYTES}"


@dataclass(slots=True)
class StreamFull:
    """The stream grows until Redis is full while all workers are frozen; then the workers must free memory."""

    _filling: asyncio.Task[None] | None = None

    async def start(self, cluster: Cluster) -> None:
        workers = [worker.process for worker in cluster.workers]
        for worker in workers:
            worker.send(signal.SIGSTOP)
        limit = await _read_used_bytes(cluster) + STREAM_BYTES
        await cluster.run_on_redis("CONFIG SET", "maxmemory", limit)
        self._filling = asyncio.create_task(self._fill(cluster, workers, limit))

    async def _fill(self, cluster: Cluster, workers: Sequence[Process], limit: int) -> None:
        deadline = time.monotonic() + FILL_SECONDS
        while time.monotonic() < deadline and await _read_used_bytes(cluster) < limit:
            await asyncio.sleep(LOOK_SECONDS)
        for worker in workers:
            worker.send(signal.SIGCONT)

    async def end(self, cluster: Cluster) -> None:
        if self._filling is not None:
            await self._filling
        try:
            await until(lambda: _takes_writes(cluster), seconds=HEAL_SECONDS)
        except AssertionError:
            cluster.redis.crashes.append(f"Redis was still full {HEAL_SECONDS:.0f} s after the workers resumed")
        await cluster.run_on_redis("CONFIG SET", "maxmemory", ROOM)

    def __str__(self) -> str:
        return f"{STREAM_BYTES} bytes of room for the stream"


async def _read_used_bytes(cluster: Cluster) -> int:
    """Return the memory that Redis uses; 0 without an answer."""
    try:
        return int((await cluster.control.info("memory"))["used_memory"])
    except (RedisError, OSError):
        return 0


async def _takes_writes(cluster: Cluster) -> bool:
    try:
        await cluster.control.set("chaos:room", "x", px=1)
    except (RedisError, OSError):
        return False
    return True


@dataclass(slots=True)
class DatabaseAwayAtStart:
    """The postmaster is killed and all workers restart; they must be alive before it is back."""

    async def start(self, cluster: Cluster) -> None:
        assert cluster.postgresql is not None
        await cluster.postgresql.kill()
        for worker, ended in [(worker, worker.hold(signal.SIGKILL)) for worker in cluster.workers]:
            await worker.release(ended)

    async def end(self, cluster: Cluster) -> None:
        assert cluster.postgresql is not None
        for worker, url in zip(cluster.workers, cluster.worker_admin_urls, strict=True):
            if not await _becomes_alive(url):
                worker.crashes.append(f"{worker.name} was not alive without a database, see {worker.process.output}")
        await cluster.postgresql.restart()

    def __str__(self) -> str:
        return "SIGKILL postmaster, then all workers"


async def _becomes_alive(admin_url: str) -> bool:
    async def is_alive() -> bool:
        return await answer(f"{admin_url}/live") == OK

    try:
        await until(is_alive, seconds=ALIVE_SECONDS)
    except AssertionError:
        return False
    return True


@dataclass(slots=True)
class DatabaseKilled:
    """SIGKILL of the postmaster; it restarts when the fault ends."""

    async def start(self, cluster: Cluster) -> None:
        assert cluster.postgresql is not None
        await cluster.postgresql.kill()

    async def end(self, cluster: Cluster) -> None:
        assert cluster.postgresql is not None
        await cluster.postgresql.restart()

    def __str__(self) -> str:
        return "SIGKILL postmaster"


@dataclass(slots=True)
class DatabaseStopped:
    """All processes of PostgreSQL are frozen."""

    _stopped: Sequence[Any] = ()

    async def start(self, cluster: Cluster) -> None:
        assert cluster.postgresql is not None
        self._stopped = cluster.postgresql.stop()

    async def end(self, cluster: Cluster) -> None:
        assert cluster.postgresql is not None
        cluster.postgresql.resume(self._stopped)

    def __str__(self) -> str:
        return "SIGSTOP postmaster and its children"


@dataclass(slots=True)
class SpoolFull:
    """The disk of the spool is full."""

    _ballast: Path | None = None

    async def start(self, cluster: Cluster) -> None:
        assert cluster.has_disk
        self._ballast = fill(cluster.ingest_data)

    async def end(self, cluster: Cluster) -> None:  # noqa: ARG002 - the interface of a fault
        if self._ballast is not None:
            self._ballast.unlink()

    def __str__(self) -> str:
        return "no room on its disk"
