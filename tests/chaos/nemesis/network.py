"""Faults of the network between ingest or workers and Redis, made by proxies."""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.cluster.cluster import Cluster
from tests.support.servers.proxy import Proxy

SIDES = (("ingest",), ("workers",), ("ingest", "workers"))
DELAY_SECONDS = (0.02, 1.5)
TORN_BYTES = (100, 300_000)
NEVER_BYTES = 2**62
LOOK_SECONDS = 0.01


@dataclass(slots=True)
class ProxyFault:
    """A state of a proxy: `freeze`, `cut` (and refuse), `swallow` (replies) or `delay`."""

    what: str
    sides: Sequence[str]
    delay_seconds: float = 0.0

    @classmethod
    def from_rng(cls, what: str, rng: random.Random) -> "ProxyFault":
        return cls(what, rng.choice(SIDES), round(rng.uniform(*DELAY_SECONDS), 2))

    async def start(self, cluster: Cluster) -> None:
        for side in self.sides:
            self._spoil(cluster.proxies[side])

    async def end(self, cluster: Cluster) -> None:
        for side in self.sides:
            self._mend(cluster.proxies[side])

    def _spoil(self, proxy: Proxy) -> None:
        match self.what:
            case "freeze":
                proxy.freeze()
            case "cut":
                proxy.refuses = True
                proxy.cut()
            case "swallow":
                proxy.swallows_replies = True
            case _:
                proxy.delay_seconds = self.delay_seconds

    def _mend(self, proxy: Proxy) -> None:
        match self.what:
            case "freeze":
                proxy.thaw()
            case "cut":
                proxy.refuses = False
            case "swallow":
                proxy.swallows_replies = False
            case _:
                proxy.delay_seconds = 0.0

    def __str__(self) -> str:
        return " and ".join(self.sides) + f", {self.delay_seconds} s" * (self.what == "delay")


@dataclass(slots=True)
class ConnectionsTorn:
    """All connections are cut in the middle of a message, and again after a random number of bytes."""

    sides: Sequence[str]
    chance: random.Random
    _tearing: asyncio.Task[None] | None = None
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def from_rng(cls, rng: random.Random) -> "ConnectionsTorn":
        return cls(rng.choice(SIDES), random.Random(rng.random()))

    async def start(self, cluster: Cluster) -> None:
        self._tearing = asyncio.create_task(self._tear([cluster.proxies[side] for side in self.sides]))

    async def end(self, cluster: Cluster) -> None:
        self._over.set()
        if self._tearing is not None:
            await self._tearing
        for side in self.sides:
            cluster.proxies[side].cut_after(NEVER_BYTES)

    async def _tear(self, proxies: Sequence[Proxy]) -> None:
        cuts: dict[Proxy, int] = {}
        while not self._over.is_set():
            for proxy in proxies:
                if cuts.get(proxy) != proxy.cuts:
                    cuts[proxy] = proxy.cuts
                    proxy.cut_after(int(math.exp(self.chance.uniform(*map(math.log, TORN_BYTES)))))
            await asyncio.sleep(LOOK_SECONDS)

    def __str__(self) -> str:
        return " and ".join(self.sides)
