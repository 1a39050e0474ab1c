"""Faults of the processes under test, by signal."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from runtime.tasks import wait_for
from tests.chaos.cluster.cluster import Cluster
from tests.chaos.cluster.supervised import Supervised
from tests.support.faults.processes import disturb_calls, freeze

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
        alone = [pooler for pooler in (cluster.pgbouncer,) if pooler]
        of_role = {"redis": [cluster.redis], "ingest": cluster.ingests, "worker": cluster.workers, "pgbouncer": alone}[
            self.role
        ]
        return of_role[self.number % len(of_role)]

    def __str__(self) -> str:
        return self.role if self.role in ("redis", "pgbouncer") else f"{self.role} {self.number}"


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """A process ends by a signal, and restarts when the fault ends."""

    victim: Victim
    number: signal.Signals

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        victim = self.victim.of(cluster)
        process = victim.hold(self.number)
        try:
            yield
        finally:
            await victim.release(process)

    def __str__(self) -> str:
        return f"{self.number.name} {self.victim}"


@dataclass(frozen=True, slots=True)
class ProcessHarried:
    """A process is killed again and again, at random moments of its start, recovery and work."""

    victim: Victim
    chance: random.Random

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._kill(self.victim.of(cluster), over))
            try:
                yield
            finally:
                over.set()

    async def _kill(self, victim: Supervised, over: asyncio.Event) -> None:
        while not over.is_set():
            await victim.release(victim.hold(signal.SIGKILL))
            await wait_for(over, self.chance.uniform(*HARRIED_SECONDS))

    def __str__(self) -> str:
        return f"SIGKILL {self.victim} again and again"


@dataclass(frozen=True, slots=True)
class ProcessFrozen:
    """A process is frozen, as on a machine that hangs."""

    victim: Victim

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        with freeze(*self.victim.of(cluster).pids):
            yield

    def __str__(self) -> str:
        return f"SIGSTOP {self.victim}"


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """One of several processes is killed, and its supervisor replaces it."""

    victim: Victim
    chance: random.Random

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        for pid in self.chance.sample(children := self.victim.of(cluster).children, min(1, len(children))):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        yield

    def __str__(self) -> str:
        return f"SIGKILL one process of {self.victim}"


@dataclass(frozen=True, slots=True)
class ChildFrozen:
    """One of several processes is frozen, and its supervisor replaces it after a while."""

    victim: Victim
    chance: random.Random

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        with freeze(*self.chance.sample(children := self.victim.of(cluster).children, min(1, len(children)))):
            yield

    def __str__(self) -> str:
        return f"SIGSTOP one process of {self.victim}"


@dataclass(frozen=True, slots=True)
class ClockShifted:
    """The wall clock of a process is wrong by one or two hours until the fault ends."""

    victim: Victim
    seconds: int

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        with disturb_calls(self.victim.of(cluster).shim, clock_seconds=self.seconds):
            yield

    def __str__(self) -> str:
        return f"{self.victim} by {self.seconds:+d} s"


@dataclass(frozen=True, slots=True)
class FsyncFault:
    """The fsync of a process is slow or fails."""

    victim: Victim
    delay_ms: int = 0
    error: int = 0

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        victim = self.victim.of(cluster)
        orders = {"fsync_error": self.error} if self.error else {"fsync_delay_ms": self.delay_ms}
        victim.mortal += bool(self.error)
        try:
            with disturb_calls(victim.shim, **orders):
                yield
        finally:
            victim.mortal -= bool(self.error)

    def __str__(self) -> str:
        return f"{self.victim} {f'errno {self.error}' if self.error else f'{self.delay_ms} ms'}"


@dataclass(frozen=True, slots=True)
class LogUnread:
    """The log of a process has no reader: the reader has closed the pipe, or does not read and the pipe is full."""

    victim: Victim
    is_gone: bool

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        log = cluster.logs[self.victim.number % len(cluster.logs)]
        if self.is_gone:
            log.leave()
        else:
            log.stall()
        try:
            yield
        finally:
            log.read()

    def __str__(self) -> str:
        return f"{'no reader' if self.is_gone else 'a stalled reader'} of {self.victim}"
