"""How long answers took, in memory that does not grow."""

import math
from collections import Counter

from console.simulate.report import LatencyMs


class Latencies:
    """Milliseconds counted in classes 1 % wide, so that any number of them takes the same memory."""

    _WIDTH = math.log(1.01)
    _LEAST_MS = 0.001

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._max = 0.0

    def add(self, ms: float) -> None:
        """Count one."""
        self._counts[math.ceil(math.log(max(ms, self._LEAST_MS)) / self._WIDTH)] += 1
        self._max = max(self._max, ms)

    def summary(self) -> LatencyMs | None:
        """Return the percentiles; None if there are none."""
        if not self._counts:
            return None
        return LatencyMs(self._percentile(0.5), self._percentile(0.9), self._percentile(0.99), round(self._max, 3))

    def _percentile(self, share: float) -> float:
        wanted, seen = math.ceil(share * self._counts.total()), 0
        for number in sorted(self._counts):
            seen += self._counts[number]
            if seen >= wanted:
                return round(min(math.exp(number * self._WIDTH), self._max), 3)
        return round(self._max, 3)
