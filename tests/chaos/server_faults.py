"""Faults of what the processes depend on: what Redis holds, the database, the spool's disk."""

import asyncio
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from tests.chaos.mounts import fill
from tests.chaos.site import Cluster
from tests.chaos.verdict import GROUPS
from tests.support.processes import Process, answer
from tests.support.waiting import until

FULL_BYTES = 1024 * 1024
ROOM = "1gb"
STREAM_BYTES = 1536 * 1024
"""More than the stream may keep, so trimming makes room."""
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
    def made(cls, rng: random.Random) -> "GroupDestroyed":
        return cls(rng.sample(GROUPS, rng.randint(1, len(GROUPS))))

    async def begin(self, site: Cluster) -> None:
        for group in self.groups:
            await site.order("XGROUP DESTROY", site.shard.stream, group)

    async def end(self, site: Cluster) -> None:
        pass

    def __str__(self) -> str:
        return " and ".join(self.groups)


@dataclass(slots=True)
class RedisFull:
    """Redis holds more than its maxmemory allows, and refuses what takes more."""

    async def begin(self, site: Cluster) -> None:
        await site.order("CONFIG SET", "maxmemory", FULL_BYTES)

    async def end(self, site: Cluster) -> None:
        await site.order("CONFIG SET", "maxmemory", ROOM)

    def __str__(self) -> str:
        return f"maxmemory {FULL_BYTES}"


@dataclass(slots=True)
class StreamFull:
    """The stream grows until Redis is full, while no worker runs; then workers run, and it must heal by itself."""

    _filling: asyncio.Task[None] | None = None

    async def begin(self, site: Cluster) -> None:
        workers = [worker.process for worker in site.workers]
        for worker in workers:
            worker.send(signal.SIGSTOP)
        limit = await _used_bytes(site) + STREAM_BYTES
        await site.order("CONFIG SET", "maxmemory", limit)
        self._filling = asyncio.create_task(self._fill(site, workers, limit))

    async def _fill(self, site: Cluster, workers: Sequence[Process], limit: int) -> None:
        deadline = time.monotonic() + FILL_SECONDS
        while time.monotonic() < deadline and await _used_bytes(site) < limit:
            await asyncio.sleep(LOOK_SECONDS)
        for worker in workers:
            worker.send(signal.SIGCONT)

    async def end(self, site: Cluster) -> None:
        if self._filling is not None:
            await self._filling
        try:
            await until(lambda: _takes_writes(site), seconds=HEAL_SECONDS)
        except AssertionError:
            site.redis.crashes.append(f"Redis was still full {HEAL_SECONDS:.0f} s after the workers went on")
        await site.order("CONFIG SET", "maxmemory", ROOM)

    def __str__(self) -> str:
        return f"{STREAM_BYTES} bytes of room for the stream"


async def _used_bytes(site: Cluster) -> int:
    """Return what Redis's data takes; 0 while it does not say."""
    try:
        return int((await site.control.info("memory"))["used_memory"])
    except (RedisError, OSError):
        return 0


async def _takes_writes(site: Cluster) -> bool:
    try:
        await site.control.set("chaos:room", "x", px=1)
    except (RedisError, OSError):
        return False
    return True


@dataclass(slots=True)
class DatabaseAwayAtStart:
    """The postmaster is killed, and then all workers start again; they must be alive before it is back."""

    async def begin(self, site: Cluster) -> None:
        assert site.postgresql is not None
        await site.postgresql.kill()
        for worker, ended in [(worker, worker.hold(signal.SIGKILL)) for worker in site.workers]:
            await worker.release(ended)

    async def end(self, site: Cluster) -> None:
        assert site.postgresql is not None
        for worker, url in zip(site.workers, site.worker_admin_urls, strict=True):
            if not await _becomes_alive(url):
                worker.crashes.append(f"{worker.name} was not alive without a database, see {worker.process.output}")
        await site.postgresql.restart()

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
    """SIGKILL of the postmaster; started again when the fault ends."""

    async def begin(self, site: Cluster) -> None:
        assert site.postgresql is not None
        await site.postgresql.kill()

    async def end(self, site: Cluster) -> None:
        assert site.postgresql is not None
        await site.postgresql.restart()

    def __str__(self) -> str:
        return "SIGKILL postmaster"


@dataclass(slots=True)
class DatabaseStopped:
    """All its processes stand still."""

    _stopped: Sequence[Any] = ()

    async def begin(self, site: Cluster) -> None:
        assert site.postgresql is not None
        self._stopped = site.postgresql.stop()

    async def end(self, site: Cluster) -> None:
        assert site.postgresql is not None
        site.postgresql.go_on(self._stopped)

    def __str__(self) -> str:
        return "SIGSTOP postmaster and its children"


@dataclass(slots=True)
class SpoolFull:
    """No room is left on the spool's disk."""

    _ballast: Path | None = None

    async def begin(self, site: Cluster) -> None:
        assert site.has_disk
        self._ballast = fill(site.ingest_data)

    async def end(self, site: Cluster) -> None:  # noqa: ARG002 - the interface of a fault
        if self._ballast is not None:
            self._ballast.unlink()

    def __str__(self) -> str:
        return "no room on its disk"
