"""The metrics of several processes, merged into one."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.metrics_core import Metric

from deploy.docs import metrics_page
from runtime.children.merged_metrics import GAUGES, MergedMetrics
from runtime.children.report import ChildReport


def make_families(count: int, *, durable: int = 1) -> Sequence[Metric]:
    """Return the metrics of a process that has counted to ``count``, as its supervisor reads them."""
    registry = CollectorRegistry()
    Counter("ackstream_webhooks", "", ["answer"], registry=registry).labels("200").inc(count)
    seconds = Histogram("ackstream_answer_seconds", "", registry=registry, buckets=(1,))
    for _ in range(count):
        seconds.observe(0.5, {"trace_id": f"t{count}"})
    Gauge("ackstream_connections", "", registry=registry).set(count)
    Gauge("ackstream_redis_durable", "", registry=registry).set(durable)
    Gauge("ackstream_spool_oldest_seconds", "", registry=registry).set(count)
    Info("handler", "", registry=registry).info({"version": "1"})
    return ChildReport.decode(ChildReport(None, list(registry.collect())).encode()).families


def read(metrics: MergedMetrics) -> dict[str, float]:
    """Return the merged samples by name."""
    return {sample.name: sample.value for family in metrics.collect() for sample in family.samples}


def test_counts_of_ended_processes_stay() -> None:
    """Counters and histograms are sums over all processes, also ended ones; gauges are those of running processes."""
    running = [make_families(3), make_families(4, durable=0)]
    metrics = MergedMetrics(lambda: running)
    created = min(sample.value for family in running[0] for sample in family.samples if "_created" in sample.name)

    before = read(metrics)
    metrics.retire(running.pop(0))
    metrics.retire(make_families(5))
    after = read(metrics)

    assert [values["ackstream_webhooks_total"] for values in (before, after)] == [7, 12]
    assert [values["ackstream_answer_seconds_count"] for values in (before, after)] == [7, 12]
    assert [values["ackstream_answer_seconds_sum"] for values in (before, after)] == [3.5, 6.0]
    assert [values["ackstream_connections"] for values in (before, after)] == [7, 4]
    assert [values["ackstream_spool_oldest_seconds"] for values in (before, after)] == [4, 4]
    assert [values["handler_info"] for values in (before, after)] == [1, 1]
    assert before["ackstream_redis_durable"] == 0
    assert after["ackstream_webhooks_created"] == created
    exemplars = [sample.exemplar for family in metrics.collect() for sample in family.samples if sample.exemplar]
    assert [exemplar.labels for exemplar in exemplars] == [{"trace_id": "t5"}]


def test_each_gauge_has_a_rule() -> None:
    """A gauge of ingest, worker or every process says how to merge it."""
    gauges = metrics_page.gauges("Ingest", "Worker", "Every process")

    assert set(gauges) == {name for name in GAUGES if name.startswith("ackstream_")}
