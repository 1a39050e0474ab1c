"""A round: a load, faults that start and end, a drain, and the analysis."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import ordered, stall_detector
from tests.chaos.checker.checker import LoadResult
from tests.chaos.checker.provider import BUSY, KEPT, NONE, LoadTally
from tests.chaos.checker_client import CheckerClient
from tests.chaos.cluster.cluster import Cluster
from tests.chaos.nemesis.kinds import AWAY
from tests.chaos.nemesis.schedule import Kind, Planned, draw

RATE = (300.0, 700.0)
LOAD_SECONDS = (3.0, 6.0)
AFTER_SECONDS = 1.0
"""The least time that the load continues after the end of the last fault."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a round: it depends on seed and number only, not on earlier rounds."""

    seed: int
    number: int
    faults: Sequence[Planned]
    rate: float
    seconds: float
    """The length of the load."""

    @classmethod
    def draw(cls, seed: int, number: int, kinds: Mapping[str, Kind], maximum: int) -> "Plan":
        rng = random.Random(f"{seed}:{number}")
        faults = draw(rng, kinds, AWAY, maximum)
        rate, least = rng.uniform(*RATE), rng.uniform(*LOAD_SECONDS)
        return cls(seed, number, faults, rate, max(least, *(fault.end_seconds + AFTER_SECONDS for fault in faults)))

    @property
    def kinds(self) -> list[str]:
        return [fault.kind for fault in self.faults]

    def __str__(self) -> str:
        faults = "; ".join(map(str, self.faults))
        return f"round {self.number} of seed {self.seed}: {self.rate:.0f}/s for {self.seconds:.1f} s; {faults}"


@dataclass(frozen=True, slots=True)
class Round:
    """The result of a round."""

    plan: Plan
    seconds: float
    still_seconds: float
    """The longest stall of this machine; 0 without a stall."""
    tally: LoadTally
    outcome: LoadResult
    failures: Sequence[str]
    """The reasons why the round failed, in words; empty if it passed."""


async def play(cluster: Cluster, checker: CheckerClient, plan: Plan, ordered_in: Path | None = None) -> Round:
    """Run a round on a cluster that is ready. In order mode its handler notes its calls in the folder."""
    began = time.monotonic()
    count, seed = round(plan.rate * plan.seconds), f"{plan.seed}:{plan.number}:load"
    async with stall_detector.detect_stalls() as stalls:
        async with asyncio.TaskGroup() as tasks:
            loading = tasks.create_task(checker.load(plan.number, count, plan.rate, seed))
            if ordered_in is not None:
                tasks.create_task(ordered.send(cluster, plan.number, plan.seconds))
            for fault in plan.faults:
                tasks.create_task(fault.happen(cluster))
        async with asyncio.TaskGroup() as tasks:
            outcome = tasks.create_task(checker.end(plan.number))
            ready = tasks.create_task(cluster.is_ready())
    tally = loading.result()
    disorders = [] if ordered_in is None else await ordered.find_faults(cluster, ordered_in)
    failures = [*cluster.crashes(), *_list_failures(tally, outcome.result()), *disorders]
    if not ready.result():
        failures.append("an ingest or a worker did not become ready again")
    return Round(plan, time.monotonic() - began, stalls.longest_seconds, tally, outcome.result(), failures)


def _list_failures(tally: LoadTally, outcome: LoadResult) -> list[str]:
    """Return the failures, in words."""
    analysis = outcome.analysis
    reasons = {
        f"{analysis.lost} lost": analysis.lost,
        f"{analysis.duplicates} duplicates in the database": analysis.duplicates,
        f"{analysis.wrong} rows or dead letters that are wrong": analysis.wrong,
        f"not drained: {outcome.left}": outcome.left,
        "a fresh message did not pass": not outcome.fresh,
        f"{tally.given_up} never answered 200": tally.given_up,
        f"answers other than 200 and 503: {tally.answers}": tally.answers.keys() - {KEPT, BUSY, NONE},
    }
    return [*(words for words, there in reasons.items() if there), *_list_names(analysis.names)]


def _list_names(names: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{kind}: {', '.join(ids)}" for kind, ids in names.items()]
