"""A round: load on, faults begin and end, all is put right, drained, judged."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.chaos import pulse
from tests.chaos.court import Court
from tests.chaos.faults import Kind, Planned, draw
from tests.chaos.judge import Ending
from tests.chaos.kinds import AWAY
from tests.chaos.provider import BUSY, KEPT, NONE, Tally
from tests.chaos.site import Cluster

RATE = (300.0, 700.0)
LOAD_SECONDS = (3.0, 6.0)
AFTER_SECONDS = 1.0
"""How long the load goes on, at least, when the last fault has ended."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen in a round: it follows from seed and number, and from nothing that happened before."""

    seed: int
    number: int
    faults: Sequence[Planned]
    rate: float
    seconds: float
    """How long the load goes on."""

    @classmethod
    def drawn(cls, seed: int, number: int, kinds: Mapping[str, Kind], most: int) -> "Plan":
        rng = random.Random(f"{seed}:{number}")
        faults = draw(rng, kinds, AWAY, most)
        rate, least = rng.uniform(*RATE), rng.uniform(*LOAD_SECONDS)
        return cls(seed, number, faults, rate, max(least, *(one.end_seconds + AFTER_SECONDS for one in faults)))

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.faults]

    def __str__(self) -> str:
        faults = "; ".join(map(str, self.faults))
        return f"round {self.number} of seed {self.seed}: {self.rate:.0f}/s for {self.seconds:.1f} s; {faults}"


@dataclass(frozen=True, slots=True)
class Round:
    """What became of a round."""

    plan: Plan
    seconds: float
    still_seconds: float
    """How long this machine stood still; 0 if it did not."""
    tally: Tally
    ending: Ending
    troubles: Sequence[str]
    """What makes it a failed one, in words; empty if nothing does."""


async def play(site: Cluster, court: Court, plan: Plan) -> Round:
    """Play a round on a site that is ready."""
    began = time.monotonic()
    count, seed = round(plan.rate * plan.seconds), f"{plan.seed}:{plan.number}:load"
    async with pulse.felt() as felt:
        async with asyncio.TaskGroup() as tasks:
            loading = tasks.create_task(court.load(plan.number, count, plan.rate, seed))
            for one in plan.faults:
                tasks.create_task(one.happen(site))
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(court.end(plan.number))
            ready = tasks.create_task(site.is_ready())
    tally = loading.result()
    troubles = [*site.crashes(), *_troubles(tally, ending.result())]
    if not ready.result():
        troubles.append("an ingest or a worker did not become ready again")
    return Round(plan, time.monotonic() - began, felt.longest_seconds, tally, ending.result(), troubles)


def _troubles(tally: Tally, ending: Ending) -> list[str]:
    """Return what must not be, in words."""
    verdict = ending.verdict
    found = {
        f"{verdict.lost} lost": verdict.lost,
        f"{verdict.duplicates} duplicates in the database": verdict.duplicates,
        f"{verdict.wrong} rows or dead letters that are wrong": verdict.wrong,
        f"not drained: {ending.left}": ending.left,
        "a fresh message did not pass": not ending.fresh,
        f"{tally.given_up} never answered 200": tally.given_up,
        f"answers other than 200 and 503: {tally.answers}": tally.answers.keys() - {KEPT, BUSY, NONE},
    }
    return [*(words for words, there in found.items() if there), *_named(verdict.names)]


def _named(names: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{kind}: {', '.join(ids)}" for kind, ids in names.items()]
