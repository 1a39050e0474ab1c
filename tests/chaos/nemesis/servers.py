"""Faults of servers and disks: Redis, the database, the disk of the spool."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.exceptions import RedisError

from tests.chaos.checker.analysis import GROUPS
from tests.chaos.cluster.cluster import Cluster
from tests.support.faults.processes import freeze
from tests.support.faults.redis_server import limit_memory
from tests.support.faults.small_disk import fill
from tests.support.processes import answer
from tests.support.waiting import until

FULL_BYTES = 1024 * 1024
STREAM_BYTES = 1536 * 1024
"""More than the retention of the stream, so that trimming frees memory."""
FILL_SECONDS = 10.0
HEAL_SECONDS = 60.0
ALIVE_SECONDS = 45.0
LOOK_SECONDS = 0.1
OK = 200


@dataclass(frozen=True, slots=True)
class GroupDestroyed:
    """XGROUP DESTROY of one group or all."""

    groups: Sequence[str]

    @classmethod
    def from_rng(cls, rng: random.Random) -> "GroupDestroyed":
        return cls(rng.sample(GROUPS, rng.randint(1, len(GROUPS))))

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        for shard in cluster.shards:
            for group in self.groups:
                await cluster.run_command("XGROUP DESTROY", shard.stream, group)
        yield

    def __str__(self) -> str:
        return " and ".join(self.groups)


@dataclass(frozen=True, slots=True)
class RedisFull:
    """Redis is over its maxmemory and refuses writes that need memory."""

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        async with limit_memory(FULL_BYTES)(cluster):
            yield

    def __str__(self) -> str:
        return f"maxmemory {FULL_BYTES}"


@dataclass(frozen=True, slots=True)
class StreamFull:
    """The stream grows until Redis is full while all workers are frozen; then the workers must free memory."""

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        limit_bytes = await _await_used_bytes(cluster) + STREAM_BYTES
        async with limit_memory(limit_bytes)(cluster), asyncio.TaskGroup() as tasks:
            filling = tasks.create_task(self._fill(cluster, limit_bytes))
            yield
            await filling
            try:
                await until(lambda: _takes_writes(cluster), seconds=HEAL_SECONDS)
            except AssertionError:
                cluster.redis.crashes.append(f"Redis was still full {HEAL_SECONDS:.0f} s after the workers resumed")

    async def _fill(self, cluster: Cluster, limit_bytes: int) -> None:
        deadline = time.monotonic() + FILL_SECONDS
        with freeze(*(pid for worker in cluster.workers for pid in worker.pids)):
            while time.monotonic() < deadline and await _read_used_bytes(cluster) < limit_bytes:
                await asyncio.sleep(LOOK_SECONDS)

    def __str__(self) -> str:
        return f"{STREAM_BYTES} bytes of room for the stream"


async def _read_used_bytes(cluster: Cluster) -> int:
    """Return the memory that Redis uses; 0 without an answer."""
    try:
        return int((await cluster.server.info("memory"))["used_memory"])
    except (RedisError, OSError):
        return 0


async def _await_used_bytes(cluster: Cluster) -> int:
    """Return the memory that Redis uses, once it answers. Another fault may have stopped it."""
    async with asyncio.timeout(HEAL_SECONDS):
        while not (used_bytes := await _read_used_bytes(cluster)):
            await asyncio.sleep(LOOK_SECONDS)
    return used_bytes


async def _takes_writes(cluster: Cluster) -> bool:
    try:
        await cluster.server.set("chaos:room", "x", px=1)
    except (RedisError, OSError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class DatabaseAwayAtStart:
    """The postmaster is killed and all workers restart; they must be alive before it is back."""

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        async with DatabaseKilled().run(cluster):
            for worker, ended in [(worker, worker.hold(signal.SIGKILL)) for worker in cluster.workers]:
                await worker.release(ended)
            yield
            for worker, url in zip(cluster.workers, cluster.worker_admin_urls, strict=True):
                if not await _becomes_alive(url):
                    output = worker.process.output
                    worker.crashes.append(f"{worker.name} was not alive without a database, see {output}")

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


@dataclass(frozen=True, slots=True)
class DatabaseKilled:
    """SIGKILL of the postmaster; it restarts when the fault ends."""

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        assert cluster.postgresql is not None
        await cluster.postgresql.kill()
        try:
            yield
        finally:
            await cluster.postgresql.restart()

    def __str__(self) -> str:
        return "SIGKILL postmaster"


@dataclass(frozen=True, slots=True)
class DatabaseStopped:
    """All processes of PostgreSQL are frozen."""

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        assert cluster.postgresql is not None
        with cluster.postgresql.freeze():
            yield

    def __str__(self) -> str:
        return "SIGSTOP postmaster and its children"


@dataclass(frozen=True, slots=True)
class SpoolFull:
    """The disk of the spool is full."""

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        assert cluster.has_disk
        filler = fill(cluster.ingest_data)
        try:
            yield
        finally:
            filler.unlink()

    def __str__(self) -> str:
        return "no room on its disk"
