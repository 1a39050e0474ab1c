"""The faults of a round, drawn at random. All randomness comes from the generator of the round."""

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from tests.chaos.cluster.cluster import Cluster

START_SECONDS = (0.3, 3.0)
BESIDE_SECONDS = (-0.2, 0.5)
BESIDE_SHARE = (0.6, 1.2)
"""The start and the length of an accompanying fault, relative to the other fault."""


class Fault(Protocol):
    """A fault that lasts for a block. `str` describes it."""

    def run(self, cluster: Cluster) -> AbstractAsyncContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: how to make one, and its length."""

    make: Callable[[random.Random], Fault]
    seconds: tuple[float, float]
    """The least and the greatest length; short faults are more likely."""
    needs: str | None = None
    """The requirement of the fault, in words; None if every machine has it."""
    with_redis_away: bool = False
    """Whether the fault has an effect only while ingest cannot reach Redis."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault of a round: its start, in seconds after the start of the load, and its length."""

    kind: str
    fault: Fault
    start_seconds: float
    seconds: float

    @property
    def end_seconds(self) -> float:
        return self.start_seconds + self.seconds

    async def happen(self, cluster: Cluster) -> None:
        await asyncio.sleep(self.start_seconds)
        async with self.fault.run(cluster):
            await asyncio.sleep(self.seconds)

    def __str__(self) -> str:
        return f"{self.kind} {self.start_seconds:.1f} to {self.end_seconds:.1f} s ({self.fault})"


def draw(rng: random.Random, kinds: Mapping[str, Kind], away: Mapping[str, Kind], maximum: int) -> list[Planned]:
    """Draw one to ``maximum`` faults of different kinds.

    A fault that has an effect only without Redis gets one of `away` as company, for about the same time.
    """
    names = rng.sample(sorted(kinds), min(rng.randint(1, maximum), len(kinds)))
    planned = [_plan(rng, name, kinds[name], rng.uniform(*START_SECONDS)) for name in names]
    for fault in list(planned):
        if kinds[fault.kind].with_redis_away:
            beside = rng.choice([name for name in away if name not in {drawn.kind for drawn in planned}])
            start = max(0.0, fault.start_seconds + rng.uniform(*BESIDE_SECONDS))
            planned.append(_plan(rng, beside, away[beside], start, fault.seconds * rng.uniform(*BESIDE_SHARE)))
    return sorted(planned, key=lambda fault: fault.start_seconds)


def _plan(rng: random.Random, name: str, kind: Kind, start_seconds: float, seconds: float | None = None) -> Planned:
    shortest, longest = kind.seconds
    drawn = math.exp(rng.uniform(math.log(shortest), math.log(longest)))
    return Planned(name, kind.make(rng), round(start_seconds, 2), round(seconds or drawn, 2))
