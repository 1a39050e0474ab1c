"""What a fault is, and which a round draws. Everything random comes from the round's own generator."""

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tests.chaos.site import Cluster

START_SECONDS = (0.3, 3.0)
BESIDE_SECONDS = (-0.2, 0.5)
BESIDE_SHARE = (0.6, 1.2)
"""When a fault that comes beside another begins, and how long it lasts, compared with that one."""


class Fault(Protocol):
    """Something that goes wrong between ``begin`` and ``end``, which puts it right. ``str`` says what exactly."""

    async def begin(self, site: Cluster) -> None: ...

    async def end(self, site: Cluster) -> None: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: how it is made and how long it may last."""

    make: Callable[[random.Random], Fault]
    seconds: tuple[float, float]
    """At least and at most; short ones are likelier."""
    needs: str | None = None
    """What must be there for it, in words; None if that is there always."""
    with_redis_away: bool = False
    """Whether it shows only while ingest cannot reach Redis."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault of a round: when it begins, in seconds from the beginning of the load, and how long it lasts."""

    kind: str
    fault: Fault
    start_seconds: float
    seconds: float

    @property
    def end_seconds(self) -> float:
        return self.start_seconds + self.seconds

    async def happen(self, site: Cluster) -> None:
        await asyncio.sleep(self.start_seconds)
        try:
            await self.fault.begin(site)
            await asyncio.sleep(self.seconds)
        finally:
            await self.fault.end(site)

    def __str__(self) -> str:
        return f"{self.kind} {self.start_seconds:.1f} to {self.end_seconds:.1f} s ({self.fault})"


def draw(rng: random.Random, kinds: Mapping[str, Kind], away: Mapping[str, Kind], most: int) -> list[Planned]:
    """Draw one to ``most`` faults of different kinds.

    One that shows only while ingest cannot reach Redis gets one of ``away`` beside it, for about as long.
    """
    names = rng.sample(sorted(kinds), min(rng.randint(1, most), len(kinds)))
    planned = [_plan(rng, name, kinds[name], rng.uniform(*START_SECONDS)) for name in names]
    for one in list(planned):
        if kinds[one.kind].with_redis_away:
            beside = rng.choice([name for name in away if name not in {other.kind for other in planned}])
            start = max(0.0, one.start_seconds + rng.uniform(*BESIDE_SECONDS))
            planned.append(_plan(rng, beside, away[beside], start, one.seconds * rng.uniform(*BESIDE_SHARE)))
    return sorted(planned, key=lambda one: one.start_seconds)


def _plan(rng: random.Random, name: str, kind: Kind, start_seconds: float, seconds: float | None = None) -> Planned:
    least, most = kind.seconds
    drawn = math.exp(rng.uniform(math.log(least), math.log(most)))
    return Planned(name, kind.make(rng), round(start_seconds, 2), round(seconds or drawn, 2))
