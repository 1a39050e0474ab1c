"""Measure latencies in memory of constant size."""

import math
from collections import Counter

from console.simulate.report import LatencyMs


class Latencies:
    """A histogram of milliseconds, with bins 1 % wide; its memory does not grow with the number of values."""

    _WIDTH = math.log(1.01)
    _LEAST_MS = 0.001

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._max = 0.0

    def add(self, ms: float) -> None:
        """Count one latency."""
        self._counts[math.ceil(math.log(max(ms, self._LEAST_MS)) / self._WIDTH)] += 1
        self._max = max(self._max, ms)

    def summary(self) -> LatencyMs | None:
        """Return the percentiles; None without latencies."""
        if not self._counts:
            return None
        return LatencyMs(self._percentile(0.5), self._percentile(0.9), self._percentile(0.99), round(self._max, 3))

    def _percentile(self, share: float) -> float:
        rank, counted = math.ceil(share * self._counts.total()), 0
        for number in sorted(self._counts):
            counted += self._counts[number]
            if counted >= rank:
                return round(min(math.exp(number * self._WIDTH), self._max), 3)
        return round(self._max, 3)
