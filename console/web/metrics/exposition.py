"""Reads the text of ``/metrics`` into the numbers of one process. Unknown metrics are ignored. No I/O."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from console.web.metrics.counters import Key, Values
from console.web.metrics.distribution import Distribution

MOST_LINES = 20_000
MOST_LABELS = 500
"""Different label values of one metric; further ones are ignored."""

START = "process_start_time_seconds"
PROCESS = "ackstream_process"

COUNTERS: Mapping[str, tuple[str, str]] = {
    "ackstream_webhooks_total": ("answers", "answer"),
    "ackstream_webhooks_verified_total": ("verified", "account"),
    "ackstream_signatures_refused_total": ("refused", "result"),
    "ackstream_events_handled_total": ("handled", "group"),
    "ackstream_handler_failures_total": ("failed", "group"),
    "ackstream_dead_letters_total": ("dead", "group"),
    "ackstream_trim_failures_total": ("trim-failures", "error"),
    "ackstream_missing_entries_total": ("missing", ""),
}
"""Metric → kind, and the label that is kept; the counts of the other labels are added up."""
HISTOGRAMS: Mapping[str, tuple[str, str]] = {
    "ackstream_answer_seconds": ("answer", ""),
    "ackstream_handle_seconds": ("handle", "group"),
}
GAUGES: Mapping[str, str] = {
    "ackstream_connections": "",
    "ackstream_spool_entries": "",
    "ackstream_spool_bytes": "",
    "ackstream_spool_limit_bytes": "",
    "ackstream_spool_oldest_seconds": "",
    "ackstream_spool_foreign_entries": "",
    "ackstream_redis_durable": "",
    "ackstream_redis_memory_ratio": "",
    "ackstream_redis_down": "fault",
    "ackstream_retention_blocked_entries": "group",
    "ackstream_target_away": "group",
    "ackstream_group_paused": "group",
    PROCESS: "kind",
    START: "",
}
"""Metric → the label that is kept, or an empty string; the values of the other labels are added up."""
ONLY: Mapping[str, tuple[str, str]] = {"ackstream_group_paused": ("why", "backlog")}
"""Metric → a label and its value: samples with another value are ignored. Redis has all other pauses."""
_NAMES = (*COUNTERS, *HISTOGRAMS, *GAUGES)


class NoMetrics(Exception):  # noqa: N818 - named for what the address does not serve
    """The text holds no metrics of an Ackstream process, or too many."""


@dataclass(slots=True)
class Reading:
    """The numbers of one process since its start."""

    counters: dict[Key, Values] = field(default_factory=dict)
    bounds: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Upper limits of the buckets by kind of histogram."""
    gauges: dict[tuple[str, str], float] = field(default_factory=dict)
    """(metric, label) → value; the label is empty without one."""

    @property
    def started_at(self) -> float:
        """When the process started, in Unix seconds of its clock; 0 if it does not say."""
        return self.gauge(START) or 0.0

    def is_a(self, kind: str) -> bool:
        """Whether this is a process of the kind: ``ingest`` or ``worker``."""
        return bool(self.gauges.get((PROCESS, kind)))

    def gauge(self, name: str) -> float | None:
        """Return a gauge without a label; None if it is missing."""
        return self.gauges.get((name, ""))

    def labelled(self, name: str) -> dict[str, float]:
        """Return the values of a gauge by label."""
        return {label: value for (metric, label), value in self.gauges.items() if metric == name}

    def counts(self, kind: str) -> dict[str, float]:
        """Return the counters of a kind by label."""
        return {label: values[0] for (name, label), values in self.counters.items() if name == kind}

    def distributions(self, kind: str) -> dict[str, Distribution]:
        """Return the histograms of a kind by label."""
        return {
            label: make_distribution(self.bounds[kind], values)
            for (name, label), values in self.counters.items()
            if name == kind and kind in self.bounds
        }


def make_distribution(bounds: tuple[float, ...], values: Values) -> Distribution:
    """Return the distribution of a histogram's values."""
    return Distribution(bounds, values[:-1], values[-1])


def read_metrics(text: str) -> Reading:
    """Parse the text of ``/metrics``. Raises NoMetrics."""
    reading = Reading()
    buckets: dict[Key, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    sums: dict[Key, float] = defaultdict(float)
    labels: dict[str, set[str]] = defaultdict(set)

    def is_allowed(metric: str, label: str) -> bool:
        values = labels[metric]
        if label not in values and len(values) >= MOST_LABELS:
            return False
        values.add(label)
        return True

    for sample in filter(_is_finite, _samples(text)):
        _add(sample, reading, buckets, sums, is_allowed)
    for key, counts in buckets.items():
        limits = sorted(counts)
        reading.bounds[key[0]] = tuple(limits[:-1])
        cumulative = [counts[limit] for limit in limits]
        each = [after - before for before, after in zip([0.0, *cumulative], cumulative, strict=False)]
        reading.counters[key] = (*each, sums[key])
    if not (reading.is_a("ingest") or reading.is_a("worker")):
        raise NoMetrics("no metrics of an ingest process or a worker")
    return reading


def _samples(text: str) -> Iterator[Sample]:
    """Parse the wanted lines only; a worker with many groups exports thousands."""
    lines = [line for line in text.splitlines() if line.startswith(_NAMES)]
    if len(lines) > MOST_LINES:
        raise NoMetrics(f"more than {MOST_LINES:,} lines")
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            yield from family.samples
    except (ValueError, KeyError, IndexError) as exc:
        raise NoMetrics("not in the text format of Prometheus") from exc


def _is_finite(sample: Sample) -> bool:
    return math.isfinite(sample.value)


def _add(
    sample: Sample,
    reading: Reading,
    buckets: dict[Key, dict[float, float]],
    sums: dict[Key, float],
    is_allowed: Callable[[str, str], bool],
) -> None:
    name = sample.name
    if name in ONLY and sample.labels.get(ONLY[name][0]) != ONLY[name][1]:
        return
    if name in COUNTERS:
        kind, label = COUNTERS[name]
        key = kind, sample.labels.get(label, "") if label else ""
        if is_allowed(*key):
            (previous,) = reading.counters.get(key, (0.0,))
            reading.counters[key] = (previous + sample.value,)
        return
    histogram, _, part = name.rpartition("_")
    if histogram in HISTOGRAMS:
        kind, label = HISTOGRAMS[histogram]
        key = kind, sample.labels.get(label, "") if label else ""
        if not is_allowed(*key):
            return
        if part == "bucket" and "le" in sample.labels:
            buckets[key][float(sample.labels["le"])] += sample.value
        elif part == "sum":
            sums[key] += sample.value
    elif name in GAUGES and is_allowed(name, sample.labels.get(GAUGES[name], "")):
        label = GAUGES[name]
        key = name, sample.labels.get(label, "") if label else ""
        reading.gauges[key] = reading.gauges.get(key, 0.0) + sample.value
