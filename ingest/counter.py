"""A counter for what happens at every request: without the lock of prometheus-client's own, which takes longer."""

from collections.abc import Iterable, Sequence

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class Tally(Collector):
    """Counts by labels, in one thread only. After ``most`` different ones, the others have one count together."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], most: int = 1000) -> None:
        self._family = name, documentation, labels
        self._most = most
        self._others = ("other",) * len(labels)
        self._counts: dict[tuple[str, ...], int] = {}
        REGISTRY.register(self)

    def count(self, *labels: str, number: int = 1) -> None:
        """Count one, or so many, with these labels' values."""
        counts = self._counts
        if labels not in counts:
            labels = labels if len(counts) < self._most else self._others
            counts.setdefault(labels, 0)
        counts[labels] += number

    def collect(self) -> Iterable[Metric]:
        """Return the counts, as prometheus-client asks for them."""
        name, documentation, labels = self._family
        family = CounterMetricFamily(name, documentation, labels=labels)
        for values, number in self._counts.items():
            family.add_metric(values, number)
        return [family]
