"""Faults of the network between ingest or workers and Redis, which all goes through proxies."""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.site import Cluster
from tests.support.servers.proxy import Proxy

SIDES = (("ingest",), ("workers",), ("ingest", "workers"))
DELAY_SECONDS = (0.02, 1.5)
TORN_BYTES = (100, 300_000)
NEVER_BYTES = 2**62
LOOK_SECONDS = 0.01


@dataclass(slots=True)
class Switched:
    """What a proxy does while it lasts: ``freeze``, ``cut`` (and refuse), ``swallow`` (replies), ``delay``."""

    what: str
    sides: Sequence[str]
    delay_seconds: float = 0.0

    @classmethod
    def made(cls, what: str, rng: random.Random) -> "Switched":
        return cls(what, rng.choice(SIDES), round(rng.uniform(*DELAY_SECONDS), 2))

    async def begin(self, site: Cluster) -> None:
        for side in self.sides:
            self._spoil(site.proxies[side])

    async def end(self, site: Cluster) -> None:
        for side in self.sides:
            self._mend(site.proxies[side])

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
class Torn:
    """All connections are cut in the middle of whatever it is, and again after a few bytes or many more."""

    sides: Sequence[str]
    chance: random.Random
    _tearing: asyncio.Task[None] | None = None
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def made(cls, rng: random.Random) -> "Torn":
        return cls(rng.choice(SIDES), random.Random(rng.random()))

    async def begin(self, site: Cluster) -> None:
        self._tearing = asyncio.create_task(self._tear([site.proxies[side] for side in self.sides]))

    async def end(self, site: Cluster) -> None:
        self._over.set()
        if self._tearing is not None:
            await self._tearing
        for side in self.sides:
            site.proxies[side].cut_after(NEVER_BYTES)

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
