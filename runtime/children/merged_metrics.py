"""Merges the metrics of several processes into those of one, as their supervisor serves them.

Counters and histograms are added up, those of ended processes too, so that they never fall. A gauge is added up if it
counts what each process has for itself; of a state that all see, the value that needs attention counts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

Merge = Callable[[Iterable[float]], float]

GAUGES: Mapping[str, Merge] = {
    "ackstream_backlog_bytes": max,
    "ackstream_body_bytes": sum,
    "ackstream_breaker_state": max,
    "ackstream_connections": sum,
    "ackstream_group_paused": max,
    "ackstream_last_read_timestamp_seconds": min,
    "ackstream_last_trim_timestamp_seconds": max,
    "ackstream_metrics_read_timestamp_seconds": max,
    "ackstream_order_waiting_entries": sum,
    "ackstream_process": max,
    "ackstream_redis_down": max,
    "ackstream_redis_durable": min,
    "ackstream_redis_memory_ratio": max,
    "ackstream_replay_entries": max,
    "ackstream_retention_blocked_entries": max,
    "ackstream_retention_blocked_seconds": max,
    "ackstream_shards_owned": sum,
    "ackstream_spool_bytes": sum,
    "ackstream_spool_entries": sum,
    "ackstream_spool_foreign_entries": max,
    "ackstream_spool_limit_bytes": sum,
    "ackstream_spool_oldest_seconds": max,
    "ackstream_stream_bytes": max,
    "ackstream_stream_entries": max,
    "ackstream_target_away": max,
    "process_max_fds": min,
    "process_open_fds": sum,
    "process_resident_memory_bytes": sum,
    "process_start_time_seconds": min,
    "process_virtual_memory_bytes": sum,
}
"""How to merge each gauge; others are merged with ``max``. The earliest start is the supervisor's."""

ADDED = frozenset(("counter", "histogram", "summary"))
"""The types whose values are added up. Others describe a state, such as the info of a handler's own metrics."""

Families = Sequence[Metric]
_Key = tuple[str, tuple[tuple[str, str], ...]]


class MergedMetrics(Collector):
    """The metrics of all processes; ``read`` returns those of each running one."""

    def __init__(self, read: Callable[[], Iterable[Families]]) -> None:
        self._read = read
        self._ended: Families = ()

    def retire(self, families: Families) -> None:
        """Add the last metrics of a process that has ended. Its gauges and other states end with it."""
        self._ended = list(merge([self._ended, [family for family in families if family.type in ADDED]]))

    def collect(self) -> Iterator[Metric]:
        """Return the merged metric families."""
        return merge([self._ended, *self._read()])


def merge(processes: Iterable[Families]) -> Iterator[Metric]:
    """Yield each family of any process once, with the merged samples."""
    groups: dict[str, list[Metric]] = {}
    for families in processes:
        for family in families:
            groups.setdefault(family.name, []).append(family)
    for same in groups.values():
        merged = Metric(same[0].name, same[0].documentation, same[0].type)
        merged.samples = _merge_samples(merged.type, same)
        yield merged


def _merge_samples(kind: str, families: Iterable[Metric]) -> list[Sample]:
    groups: dict[_Key, list[Sample]] = {}
    for family in families:
        for sample in family.samples:
            groups.setdefault((sample.name, tuple(sorted(sample.labels.items()))), []).append(sample)
    return [
        Sample(name, same[0].labels, _choose(kind, name)(sample.value for sample in same), None, _last_exemplar(same))
        for (name, _), same in groups.items()
    ]


def _choose(kind: str, name: str) -> Merge:
    if name.endswith("_created"):
        return min
    return sum if kind in ADDED else GAUGES.get(name, max)


def _last_exemplar(samples: Iterable[Sample]) -> Exemplar | None:
    exemplars = [sample.exemplar for sample in samples if sample.exemplar is not None]
    return max(exemplars, key=lambda exemplar: exemplar.timestamp or 0.0, default=None)
