"""Faults of the network between ingest or workers and Redis, made by proxies."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

from runtime.tasks import cancel_and_wait
from tests.chaos.cluster.cluster import Cluster
from tests.support.faults.network import disturb
from tests.support.servers.proxy import Proxy

SIDES = (("ingest",), ("workers",), ("ingest", "workers"))
DELAY_SECONDS = (0.02, 1.5)
TORN_BYTES = (100, 300_000)
NEVER_BYTES = 2**62
LOOK_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class ProxyFault:
    """One of NETWORK_FAULTS for some sides."""

    what: str
    sides: Sequence[str]
    delay_seconds: float = 0.0

    @classmethod
    def from_rng(cls, what: str, rng: random.Random) -> "ProxyFault":
        return cls(what, rng.choice(SIDES), round(rng.uniform(*DELAY_SECONDS), 2))

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        with ExitStack() as stack:
            for side in self.sides:
                stack.enter_context(disturb(cluster.proxies[side], self.what, self.delay_seconds))
            yield

    def __str__(self) -> str:
        return " and ".join(self.sides) + f", {self.delay_seconds} s" * (self.what == "delay")


@dataclass(frozen=True, slots=True)
class ConnectionsTorn:
    """All connections are cut in the middle of a message, and again after a random number of bytes."""

    sides: Sequence[str]
    chance: random.Random

    @classmethod
    def from_rng(cls, rng: random.Random) -> "ConnectionsTorn":
        return cls(rng.choice(SIDES), random.Random(rng.random()))

    @asynccontextmanager
    async def run(self, cluster: Cluster) -> AsyncIterator[None]:
        proxies = [cluster.proxies[side] for side in self.sides]
        tearing = asyncio.create_task(self._tear(proxies))
        try:
            yield
        finally:
            await cancel_and_wait([tearing])
            for proxy in proxies:
                proxy.cut_after(NEVER_BYTES)

    async def _tear(self, proxies: Sequence[Proxy]) -> NoReturn:
        cuts: dict[Proxy, int] = {}
        while True:
            for proxy in proxies:
                if cuts.get(proxy) != proxy.cuts:
                    cuts[proxy] = proxy.cuts
                    proxy.cut_after(int(math.exp(self.chance.uniform(*map(math.log, TORN_BYTES)))))
            await asyncio.sleep(LOOK_SECONDS)

    def __str__(self) -> str:
        return " and ".join(self.sides)
