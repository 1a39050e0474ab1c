"""Metrics over time, as Prometheus and as the console see them, to compare their alerts."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from console.web.metrics.counters import CounterSums
from console.web.metrics.exposition import read_metrics
from console.web.sampling.alerts import Alerts
from console.web.sampling.scrape import make_sample
from console.web.sampling.snapshot import (
    BACKLOG,
    Away,
    GroupSample,
    IngestSample,
    PauseSample,
    ProcessSample,
    Snapshot,
    WorkerSample,
    add_backlog_pauses,
)
from tests.support.samples.moments import group, moment

MINUTES = 90
"""The length of a series; the alerts are those of its end."""
SPARSE_MINUTES = 60
"""Until then the console samples seldom, which saves time."""

Values = Callable[[int], float | None]
"""Minute → value; None where the series has no sample."""
Metrics = Mapping[str, Values]
"""Series, as ``name{label="value"}`` → its values. Processes have the label ``instance``, the console has none."""

_LABEL = re.compile(r'(\w+)="([^"]*)"')


def always(value: float) -> Values:
    """Return a value that never changes."""
    return lambda _: value


def rising(per_minute: float, start: int = 0, first: float = 0) -> Values:
    """Return a value that rises from this minute on."""
    return lambda minute: first + max(minute - start, 0) * per_minute


INGEST, WORKER = 'instance="ingest:9464"', 'instance="worker:9464"'
HEALTHY: Metrics = {
    f'up{{job="ackstream-ingest",{INGEST}}}': always(1),
    f'up{{job="ackstream-worker",{WORKER}}}': always(1),
    f'ackstream_process{{kind="ingest",{INGEST}}}': always(1),
    f'ackstream_process{{kind="worker",{WORKER}}}': always(1),
    f'ackstream_webhooks_total{{answer="200",{INGEST}}}': rising(600),
    f"ackstream_spool_entries{{{INGEST}}}": always(0),
    f"ackstream_spool_bytes{{{INGEST}}}": always(0),
    f"ackstream_spool_limit_bytes{{{INGEST}}}": always(1e9),
    f"ackstream_redis_durable{{{INGEST}}}": always(1),
    f"ackstream_redis_memory_ratio{{{INGEST}}}": always(0.4),
    f'ackstream_webhooks_verified_total{{account="abc",{INGEST}}}': rising(60),
    f"ackstream_missing_entries_total{{{WORKER}}}": always(0),
    'ackstream_outstanding{group="g"}': always(9),
    'ackstream_oldest_seconds{group="g"}': always(2),
    'ackstream_dead_letters{group="g"}': always(3),
    'ackstream_live_consumers{group="g"}': always(1),
}
"""Nothing fires."""


def to_promtool(metrics: Metrics) -> list[dict[str, str]]:
    """Return the series for the input of ``promtool test rules``, a sample a minute."""
    return [
        {"series": series, "values": " ".join(_text(values(minute)) for minute in range(MINUTES + 1))}
        for series, values in metrics.items()
    ]


def _text(value: float | None) -> str:
    return "_" if value is None else f"{value:.12g}"


def watch(metrics: Metrics) -> Alerts:
    """Let the console see the same numbers; return its alerts at the end."""
    alerts, sums = Alerts(), CounterSums(watched_since=1e9)
    processes: dict[str, ProcessSample] = {}
    for minute in (*range(0, SPARSE_MINUTES, 5), *range(SPARSE_MINUTES, MINUTES + 1)):
        at = 60.0 * minute
        values = {series: float(value) for series, read in metrics.items() if (value := read(minute)) is not None}
        for series, value in values.items():
            if series.startswith("up{"):
                address = _labels(series)["instance"]
                before = processes.get(address, ProcessSample(address, at))
                processes[address] = _scrape(at, before, values, sums) if value else replace(before, away=Away("", at))
        alerts.add(_assemble(at, values, sums, list(processes.values())))
    return alerts


def _labels(series: str) -> dict[str, str]:
    return dict(_LABEL.findall(series))


def _scrape(at: float, before: ProcessSample, values: Mapping[str, float], sums: CounterSums) -> ProcessSample:
    label = f'instance="{before.address}"'
    lines = [
        f"{series} {value}" for series, value in values.items() if label in series and not series.startswith("up{")
    ]
    reading = read_metrics("\n".join(lines) + "\n")
    sums.add(before.address, 0.0, at, reading.counters)
    return make_sample(before.address, before.since, at, reading)


def _assemble(
    at: float, values: Mapping[str, float], sums: CounterSums, processes: Sequence[ProcessSample]
) -> Snapshot:
    counts = {key: numbers[0] for key, numbers in sums.sums.items()}
    healthy = moment(at, totals={"counts": counts})
    workers = tuple(process for process in processes if isinstance(process, WorkerSample))
    return replace(
        healthy,
        redis=replace(healthy.redis, durable=None),
        groups=add_backlog_pauses(_read_groups(values), workers),
        ingest=tuple(process for process in processes if isinstance(process, IngestSample)),
        workers=workers,
        silent=tuple(process for process in processes if type(process) is ProcessSample),
    )


def _read_groups(values: Mapping[str, float]) -> dict[str, GroupSample]:
    """Return the groups whose gauges the console would export like this."""
    gauges: dict[str, dict[str, float]] = {}
    paused: dict[str, str] = {}
    for series, value in values.items():
        name, labels = series.partition("{")[0], _labels(series)
        if name == "ackstream_group_paused":
            if value and labels["why"] != BACKLOG:  # which Redis does not know
                paused[labels["group"]] = labels["why"]
        elif "instance" not in labels:
            gauges.setdefault(labels["group"], {})[name.removeprefix("ackstream_")] = value
    return {
        name: group(
            name,
            unread=int(numbers["outstanding"]) if "outstanding" in numbers else None,
            oldest_seconds=numbers["oldest_seconds"],
            dead=int(numbers["dead_letters"]),
            alive=int(numbers["live_consumers"]) if "live_consumers" in numbers else None,
            paused=PauseSample(paused[name], None) if name in paused else None,
        )
        for name, numbers in gauges.items()
    }
