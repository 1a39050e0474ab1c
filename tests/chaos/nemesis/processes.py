"""Faults of the processes under test, by signal."""

import asyncio
import random
import signal
from dataclasses import dataclass, field

from tests.chaos.cluster.cluster import Cluster
from tests.chaos.cluster.supervised import Supervised
from tests.support.processes import Process

HARRIED_SECONDS = (0.2, 3.0)
"""The time between two kills; a start takes about a second."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A process of a role."""

    role: str
    number: int

    @classmethod
    def choose(cls, role: str, rng: random.Random) -> "Victim":
        return cls(role, rng.randrange(2))

    def of(self, cluster: Cluster) -> Supervised:
        alone = [one for one in (cluster.pgbouncer,) if one]
        of_role = {"redis": [cluster.redis], "ingest": cluster.ingests, "worker": cluster.workers, "pgbouncer": alone}[
            self.role
        ]
        return of_role[self.number % len(of_role)]

    def __str__(self) -> str:
        return self.role if self.role in ("redis", "pgbouncer") else f"{self.role} {self.number}"


@dataclass(slots=True)
class ProcessEnded:
    """A process ends by a signal, and restarts when the fault ends."""

    victim: Victim
    number: signal.Signals
    _process: Process | None = None

    async def start(self, cluster: Cluster) -> None:
        self._process = self.victim.of(cluster).hold(self.number)

    async def end(self, cluster: Cluster) -> None:
        if self._process is not None:
            await self.victim.of(cluster).release(self._process)

    def __str__(self) -> str:
        return f"{self.number.name} {self.victim}"


@dataclass(slots=True)
class ProcessHarried:
    """A process is killed again and again, at random moments of its start, recovery and work."""

    victim: Victim
    chance: random.Random
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _killing: asyncio.Task[None] | None = None

    async def start(self, cluster: Cluster) -> None:
        self._killing = asyncio.create_task(self._kill(self.victim.of(cluster)))

    async def end(self, cluster: Cluster) -> None:  # noqa: ARG002 - the interface of a fault
        self._over.set()
        if self._killing is not None:
            await self._killing

    async def _kill(self, victim: Supervised) -> None:
        while not self._over.is_set():
            await victim.release(victim.hold(signal.SIGKILL))
            gap = asyncio.ensure_future(self._over.wait())
            await asyncio.wait([gap], timeout=self.chance.uniform(*HARRIED_SECONDS))
            gap.cancel()

    def __str__(self) -> str:
        return f"SIGKILL {self.victim} again and again"


@dataclass(slots=True)
class ProcessFrozen:
    """A process is frozen, as on a machine that hangs."""

    victim: Victim
    _process: Process | None = field(default=None)

    async def start(self, cluster: Cluster) -> None:
        self._process = self.victim.of(cluster).process
        self._process.send(signal.SIGSTOP)

    async def end(self, cluster: Cluster) -> None:  # noqa: ARG002 - the interface of a fault
        if self._process is not None:
            self._process.send(signal.SIGCONT)

    def __str__(self) -> str:
        return f"SIGSTOP {self.victim}"


@dataclass(slots=True)
class ClockShifted:
    """The wall clock of a process is wrong by one or two hours until the fault ends."""

    victim: Victim
    seconds: int

    async def start(self, cluster: Cluster) -> None:
        self._give(cluster, self.seconds)

    async def end(self, cluster: Cluster) -> None:
        self._give(cluster, 0)

    def _give(self, cluster: Cluster, seconds: int) -> None:
        shim = self.victim.of(cluster).shim
        assert shim is not None, "needs the shim"
        shim.set(clock_seconds=seconds)

    def __str__(self) -> str:
        return f"{self.victim} by {self.seconds:+d} s"


@dataclass(slots=True)
class FsyncFault:
    """The fsync of a process is slow or fails."""

    victim: Victim
    delay_ms: int = 0
    error: int = 0

    async def start(self, cluster: Cluster) -> None:
        victim = self.victim.of(cluster)
        victim.mortal += bool(self.error)
        self._give(victim, self.delay_ms, self.error)

    async def end(self, cluster: Cluster) -> None:
        victim = self.victim.of(cluster)
        self._give(victim, 0, 0)
        victim.mortal -= bool(self.error)

    def _give(self, victim: Supervised, delay_ms: int, error: int) -> None:
        assert victim.shim is not None, "needs the shim"
        if self.error:
            victim.shim.set(fsync_error=error)
        else:
            victim.shim.set(fsync_delay_ms=delay_ms)

    def __str__(self) -> str:
        return f"{self.victim} {f'errno {self.error}' if self.error else f'{self.delay_ms} ms'}"


@dataclass(slots=True)
class LogUnread:
    """The log of a process has no reader: the reader has closed the pipe, or does not read and the pipe is full."""

    victim: Victim
    is_gone: bool

    async def start(self, cluster: Cluster) -> None:
        log = cluster.logs[self.victim.number % len(cluster.logs)]
        if self.is_gone:
            log.leave()
        else:
            log.stall()

    async def end(self, cluster: Cluster) -> None:
        cluster.logs[self.victim.number % len(cluster.logs)].read()

    def __str__(self) -> str:
        return f"{'no reader' if self.is_gone else 'a stalled reader'} of {self.victim}"
