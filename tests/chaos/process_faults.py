"""Faults of the processes under test, by signal."""

import asyncio
import random
import signal
from dataclasses import dataclass, field

from tests.chaos.site import Cluster
from tests.chaos.supervised import Supervised
from tests.support.processes import Process

HARRIED_SECONDS = (0.2, 3.0)
"""Between two kills; a start takes about a second."""


@dataclass(frozen=True, slots=True)
class Victim:
    """One of the processes of a role."""

    role: str
    number: int

    @classmethod
    def chosen(cls, role: str, rng: random.Random) -> "Victim":
        return cls(role, rng.randrange(2))

    def of(self, site: Cluster) -> Supervised:
        alone = [one for one in (site.pgbouncer,) if one]
        of_role = {"redis": [site.redis], "ingest": site.ingests, "worker": site.workers, "pgbouncer": alone}[self.role]
        return of_role[self.number % len(of_role)]

    def __str__(self) -> str:
        return self.role if self.role in ("redis", "pgbouncer") else f"{self.role} {self.number}"


@dataclass(slots=True)
class Ended:
    """It ends by a signal, and is started again when the fault ends."""

    victim: Victim
    number: signal.Signals
    _process: Process | None = None

    async def begin(self, site: Cluster) -> None:
        self._process = self.victim.of(site).hold(self.number)

    async def end(self, site: Cluster) -> None:
        if self._process is not None:
            await self.victim.of(site).release(self._process)

    def __str__(self) -> str:
        return f"{self.number.name} {self.victim}"


@dataclass(slots=True)
class Harried:
    """It is killed again and again, at moments that fall into its start, its work and its putting in order."""

    victim: Victim
    chance: random.Random
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _killing: asyncio.Task[None] | None = None

    async def begin(self, site: Cluster) -> None:
        self._killing = asyncio.create_task(self._kill(self.victim.of(site)))

    async def end(self, site: Cluster) -> None:  # noqa: ARG002 - the interface of a fault
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
class Stopped:
    """It stands still, as a process without a processor or a machine that hangs."""

    victim: Victim
    _process: Process | None = field(default=None)

    async def begin(self, site: Cluster) -> None:
        self._process = self.victim.of(site).process
        self._process.send(signal.SIGSTOP)

    async def end(self, site: Cluster) -> None:  # noqa: ARG002 - the interface of a fault
        if self._process is not None:
            self._process.send(signal.SIGCONT)

    def __str__(self) -> str:
        return f"SIGSTOP {self.victim}"


@dataclass(slots=True)
class ClockShifted:
    """Its wall clock is wrong by an hour or two, and right again when the fault ends."""

    victim: Victim
    seconds: int

    async def begin(self, site: Cluster) -> None:
        self._give(site, self.seconds)

    async def end(self, site: Cluster) -> None:
        self._give(site, 0)

    def _give(self, site: Cluster, seconds: int) -> None:
        orders = self.victim.of(site).orders
        assert orders is not None, "needs the shim"
        orders.give(clock_seconds=seconds)

    def __str__(self) -> str:
        return f"{self.victim} by {self.seconds:+d} s"


@dataclass(slots=True)
class Fsync:
    """Its fsync takes long, or fails."""

    victim: Victim
    delay_ms: int = 0
    error: int = 0

    async def begin(self, site: Cluster) -> None:
        victim = self.victim.of(site)
        victim.mortal += bool(self.error)
        self._give(victim, self.delay_ms, self.error)

    async def end(self, site: Cluster) -> None:
        victim = self.victim.of(site)
        self._give(victim, 0, 0)
        victim.mortal -= bool(self.error)

    def _give(self, victim: Supervised, delay_ms: int, error: int) -> None:
        assert victim.orders is not None, "needs the shim"
        if self.error:
            victim.orders.give(fsync_error=error)
        else:
            victim.orders.give(fsync_delay_ms=delay_ms)

    def __str__(self) -> str:
        return f"{self.victim} {f'errno {self.error}' if self.error else f'{self.delay_ms} ms'}"


@dataclass(slots=True)
class Unread:
    """Nobody reads its log: the reader has gone, or stands still and the pipe is full."""

    victim: Victim
    is_gone: bool

    async def begin(self, site: Cluster) -> None:
        log = site.logs[self.victim.number % len(site.logs)]
        if self.is_gone:
            log.leave()
        else:
            log.stall()

    async def end(self, site: Cluster) -> None:
        site.logs[self.victim.number % len(site.logs)].read()

    def __str__(self) -> str:
        return f"{'no reader' if self.is_gone else 'a stalled reader'} of {self.victim}"
