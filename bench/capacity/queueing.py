"""A queue with servers that take several waiting statuses at once, and the path of a status through such queues.

Pure computation with measured service times, so it also runs at rates that no machine here reaches. Each queue gets the
departures of the one before it; no queue slows down an earlier one, as in the product, where the stream lies between.
"""

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace, merge

from console.plan.capacity import Capacity

COMMIT_ENTRIES = 256
READ_ENTRIES = 4_000
SEED = 1


@dataclass(frozen=True, slots=True)
class Service:
    """The time of a batch: fixed, and for each status in it. A server takes at most ``most`` statuses at once."""

    fixed_seconds: float
    each_seconds: float
    most: int


def serve(arrivals: Sequence[float], service: Service, servers: int) -> list[float]:
    """Return when each status leaves; arrivals are sorted. The server that is free first takes all that wait then."""
    departures: list[float] = []
    free = [0.0] * servers
    heapify(free)
    while (place := len(departures)) < len(arrivals):
        start = max(free[0], arrivals[place])
        size = bisect_right(arrivals, start, place, min(place + service.most, len(arrivals))) - place
        end = start + service.fixed_seconds + size * service.each_seconds
        departures += [end] * size
        heapreplace(free, end)
    return departures


def arrive(rate: float, seconds: float, chance: random.Random) -> list[float]:
    """Return the times of independent arrivals."""
    times: list[float] = []
    now = chance.expovariate(rate)
    while now < seconds:
        times.append(now)
        now += chance.expovariate(rate)
    return times


@dataclass(frozen=True, slots=True)
class Delays:
    """How long statuses took until their 200 and until their row is stored, each list sorted."""

    answered: list[float]
    stored: list[float]

    def answer_ms(self, percent: float) -> float:
        """Return a percentile of the answers, in milliseconds."""
        return _percentile(self.answered, percent)

    def row_ms(self, percent: float) -> float:
        """Return a percentile of the rows, in milliseconds."""
        return _percentile(self.stored, percent)


def simulate(plan: Capacity, seconds: float, round_trip_seconds: float) -> Delays:
    """Send statuses at the peak rate through the planned processes and shards."""
    chance = random.Random(SEED)  # noqa: S311 - no secret
    processes, shards = plan.ingest_processes, plan.shards
    request = Service(0, plan.ingest_us / 1e6, 1)
    round_trip = Service(round_trip_seconds, 0, COMMIT_ENTRIES)
    redis = Service(0, plan.redis_us / 1e6, COMMIT_ENTRIES)
    batch = Service(plan.costs.commit_ms / 1000, plan.worker_busy_us / 1e6, READ_ENTRIES)
    paths: list[Iterator[tuple[float, float]]] = []
    for _ in range(processes):
        sent = arrive(plan.workload.peak_rate / processes, seconds, chance)
        appended = serve(serve(sent, request, 1), round_trip, 1)
        paths.append(zip(appended, sent, strict=True))
    appended_entries = list(merge(*paths))
    confirmed = merge(*(_confirm(appended_entries[shard::shards], redis) for shard in range(shards)))
    answered, sent_times = zip(*confirmed, strict=True)
    stored = serve(answered, batch, plan.worker_processes)
    return Delays(
        sorted(end - start for end, start in zip(answered, sent_times, strict=True)),
        sorted(end - start for end, start in zip(stored, sent_times, strict=True)),
    )


def _confirm(entries: Sequence[tuple[float, float]], redis: Service) -> Iterator[tuple[float, float]]:
    return zip(serve([at for at, _ in entries], redis, 1), [sent for _, sent in entries], strict=True)


def _percentile(values: Sequence[float], percent: float) -> float:
    return values[min(int(len(values) * percent / 100), len(values) - 1)] * 1000
