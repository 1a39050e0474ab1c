"""The queues of the simulation follow the rules and formulas of queueing theory."""

import random
from dataclasses import replace
from statistics import fmean

import pytest

from bench.capacity.queueing import Service, arrive, serve, simulate
from console.plan.capacity import Capacity
from console.plan.costs import read_costs
from console.plan.workload import Workload


@pytest.mark.parametrize("utilization", [0.3, 0.8])
def test_waiting_times_are_those_of_the_formula(utilization: float) -> None:
    """Random arrivals at one server of a fixed time wait as Pollaczek and Khinchine say (M/D/1), within 5 %."""
    service = Service(0, 1, 1)
    arrivals = arrive(utilization, 100_000, random.Random(1))  # noqa: S311 - no secret

    departures = serve(arrivals, service, 1)

    waits = [departure - arrival - 1 for arrival, departure in zip(arrivals, departures, strict=True)]
    assert min(waits) >= -1e-6
    assert fmean(waits) == pytest.approx(utilization / (2 * (1 - utilization)), rel=0.05)


def test_a_free_server_takes_all_that_wait_up_to_its_limit() -> None:
    """Two servers that take three at a time: each batch costs the fixed time and the time of its members."""
    service = Service(10, 1, 3)

    assert serve([0, 0, 0, 0, 0, 5, 30], service, 2) == [13, 13, 13, 12, 12, 23, 41]


def test_a_planned_installation_keeps_up_at_every_rate() -> None:
    """At 50 times the rate, with the processes and shards of the plan, the median answer is about as fast."""
    costs = replace(read_costs(), commit_ms=4.0)
    small, large = (simulate(Capacity(Workload(rate, 3600), costs), 20_000 / rate, 0.0003) for rate in (1_000, 50_000))

    assert large.answer_ms(50) == pytest.approx(small.answer_ms(50), rel=1)
    assert all(delays.answer_ms(50) < delays.row_ms(50) <= delays.row_ms(99) for delays in (small, large))
