"""Metrics without a lock, for events of every request: prometheus-client's own take a lock and are slower."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from time import time

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar


class Tally(Collector):
    """Counts by labels, in one thread only. Beyond ``limit`` different labels, new ones are counted as ``other``."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], limit: int = 1000) -> None:
        self._family = name, documentation, labels
        self._limit = limit
        self._overflow = ("other",) * len(labels)
        self._counts: dict[tuple[str, ...], int] = {}
        REGISTRY.register(self)

    def count(self, labels: tuple[str, ...], number: int = 1) -> None:
        """Add ``number`` to the count of these label values."""
        counts = self._counts
        try:
            counts[labels] += number
        except KeyError:
            labels = labels if len(counts) < self._limit else self._overflow
            counts[labels] = counts.get(labels, 0) + number

    def collect(self) -> Iterable[Metric]:
        """Return the counts as a metric family of prometheus-client."""
        name, documentation, labels = self._family
        family = CounterMetricFamily(name, documentation, labels=labels)
        for values, number in self._counts.items():
            family.add_metric(values, number)
        return [family]


class DurationCounts(Collector):
    """A histogram of seconds, in one thread only. ``bounds`` are the upper limits of the buckets, in order."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self._family = name, documentation
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._seconds = 0.0
        self._exemplars: dict[int, Exemplar] = {}
        REGISTRY.register(self)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._seconds += seconds

    def keep_exemplar(self, seconds: float, trace_id: str) -> None:
        """Keep a trace as the exemplar of the bucket of this duration, which the caller has counted."""
        self._exemplars[bisect_left(self._bounds, seconds)] = Exemplar({"trace_id": trace_id}, seconds, time())

    def collect(self) -> Iterable[Metric]:
        """Return the counts as a metric family of prometheus-client."""
        limits = [*map(str, self._bounds), "+Inf"]
        counts = enumerate(zip(limits, accumulate(self._counts), strict=True))
        buckets = [(*pair, self._exemplars[place]) if place in self._exemplars else pair for place, pair in counts]
        name, documentation = self._family
        return [HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=self._seconds)]
