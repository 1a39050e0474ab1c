"""A counter without a lock, for events of every request: prometheus-client's own counter takes a lock and is slower."""

from collections.abc import Iterable, Sequence

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class Tally(Collector):
    """Counts by labels, in one thread only. Beyond ``limit`` different labels, new ones are counted as ``other``."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], limit: int = 1000) -> None:
        self._family = name, documentation, labels
        self._limit = limit
        self._overflow = ("other",) * len(labels)
        self._counts: dict[tuple[str, ...], int] = {}
        REGISTRY.register(self)

    def count(self, *labels: str, number: int = 1) -> None:
        """Add ``number`` to the count of these label values."""
        counts = self._counts
        if labels not in counts:
            labels = labels if len(counts) < self._limit else self._overflow
            counts.setdefault(labels, 0)
        counts[labels] += number

    def collect(self) -> Iterable[Metric]:
        """Return the counts as a metric family of prometheus-client."""
        name, documentation, labels = self._family
        family = CounterMetricFamily(name, documentation, labels=labels)
        for values, number in self._counts.items():
            family.add_metric(values, number)
        return [family]
