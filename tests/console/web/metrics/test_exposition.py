"""The text of ``/metrics`` becomes numbers, within limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from console.web.metrics.distribution import Distribution
from console.web.metrics.exposition import MOST_LABELS, NoMetrics, read_metrics


def expose(registry: CollectorRegistry, kind: str = "worker") -> str:
    """Return the text of a process of this kind."""
    Gauge("ackstream_process", "", ["kind"], registry=registry).labels(kind).set(1)
    return generate_latest(registry).decode()


def test_the_numbers_of_a_worker() -> None:
    """Counters keep one label and add up the others; a histogram has its buckets, not cumulative."""
    registry = CollectorRegistry()
    failures = Counter("ackstream_handler_failures_total", "", ["group", "error"], registry=registry)
    failures.labels("a", "KeyError").inc(2)
    failures.labels("a", "ValueError").inc(3)
    failures.labels('b"\n', "KeyError").inc()
    handle = Histogram("ackstream_handle_seconds", "", ["group"], buckets=(0.1, 1), registry=registry)
    for seconds in (0.05, 0.5, 0.5, 9):
        handle.labels("a").observe(seconds)
    Gauge("ackstream_retention_blocked_entries", "", ["group"], registry=registry).labels("a").set(4)

    reading = read_metrics(expose(registry))

    assert reading.is_a("worker")
    assert not reading.is_a("ingest")
    assert reading.counts("failed") == {"a": 5, 'b"\n': 1}
    assert reading.distributions("handle") == {"a": Distribution((0.1, 1), (1, 2, 1), 10.05)}
    assert reading.labelled("ackstream_retention_blocked_entries") == {"a": 4}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>not metrics</html>",
        'ackstream_process{kind="other"} 1\n',
        "ackstream_process{kind= 1\n",
        "ackstream_webhooks_total one\n",
        'ackstream_webhooks_total{answer="200"} 1\n' * 20_001,
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    """A text without the metrics of a process, a malformed one and one without end raise NoMetrics."""
    with pytest.raises(NoMetrics):
        read_metrics(text)


def test_labels_are_bounded() -> None:
    """A metric with too many label values is cut off."""
    registry = CollectorRegistry()
    failures = Counter("ackstream_handler_failures_total", "", ["group", "error"], registry=registry)
    for number in range(MOST_LABELS + 5):
        failures.labels(f"g{number}", "E").inc()

    assert len(read_metrics(expose(registry)).counts("failed")) == MOST_LABELS


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text of another program raises anything but NoMetrics."""
    for head in ("", "ackstream_webhooks_total", "ackstream_answer_seconds_bucket{"):
        try:
            read_metrics(f'ackstream_process{{kind="ingest"}} 1\n{head}{text}\n')
        except NoMetrics:
            continue


@given(st.lists(st.floats(0, 2), min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_of_its_duration(durations: list[float], share: float) -> None:
    """The quantile and the duration of that rank lie in the same bucket, up to the greatest bound."""
    bounds = (0.1, 0.2, 0.5, 1.0)
    counts = [0.0] * 5
    for duration in durations:
        counts[sum(duration > bound for bound in bounds)] += 1
    distribution = Distribution(bounds, tuple(counts), sum(durations))

    quantile = distribution.quantile(share)

    rank = max(share * len(durations), 1e-9)
    exact = sorted(durations)[min(int(-(-rank // 1)) - 1, len(durations) - 1)]
    place = sum(exact > bound for bound in bounds)
    lower, upper = (0.0, *bounds)[place], (*bounds, 1.0)[place]
    assert quantile is not None
    assert lower - 1e-9 <= quantile <= upper + 1e-9
