"""The recording rules of Prometheus: the only list of them. The rules file and the Grafana dashboard come from it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording rule, drawn by the panel of its title. Rules with the same title share a panel."""

    row: str
    title: str
    name: str
    expression: str
    unit: str
    """Grafana's name of the unit."""
    legend: str
    """The name of the line; ``{{group}}`` is a label."""


def _quantile(share: float, metric: str, by: str = "") -> str:
    return f"histogram_quantile({share}, sum by ({by}le) (rate({metric}_bucket[5m])))"


_FAILURES = "sum by (group) (rate(ackstream_handler_failures_total[5m]))"
_HANDLED = "sum by (group) (rate(ackstream_events_handled_total[5m]))"

RECORDED: tuple[Recorded, ...] = (
    Recorded(
        "Ingest",
        "Webhooks a second, by answer",
        "ackstream:webhooks:rate5m",
        "sum by (answer) (rate(ackstream_webhooks_total[5m]))",
        "reqps",
        "{{answer}}",
    ),
    Recorded(
        "Ingest",
        "Share of answers with an error",
        "ackstream:webhook_errors:ratio5m",
        'sum(rate(ackstream_webhooks_total{answer=~"5.."}[5m]))\n/ sum(rate(ackstream_webhooks_total[5m]))',
        "percentunit",
        "5xx",
    ),
    Recorded(
        "Ingest",
        "Time to the answer",
        "ackstream:answer_seconds:p50_5m",
        _quantile(0.5, "ackstream_answer_seconds"),
        "s",
        "p50",
    ),
    Recorded(
        "Ingest",
        "Time to the answer",
        "ackstream:answer_seconds:p99_5m",
        _quantile(0.99, "ackstream_answer_seconds"),
        "s",
        "p99",
    ),
    Recorded(
        "Ingest",
        "Refused signatures a second",
        "ackstream:signatures_refused:rate5m",
        "sum by (result) (rate(ackstream_signatures_refused_total[5m]))",
        "reqps",
        "{{result}}",
    ),
    Recorded(
        "Redis and spool",
        "Time until Redis confirms a batch",
        "ackstream:append_seconds:p99_5m",
        _quantile(0.99, "ackstream_append_seconds"),
        "s",
        "p99",
    ),
    Recorded(
        "Redis and spool",
        "Entries in the spools",
        "ackstream:spool_entries:sum",
        "sum(ackstream_spool_entries)",
        "short",
        "entries",
    ),
    Recorded(
        "Redis and spool",
        "Use of the fullest spool",
        "ackstream:spool_use:max",
        "max(ackstream_spool_bytes / ackstream_spool_limit_bytes)",
        "percentunit",
        "used",
    ),
    Recorded(
        "Redis and spool",
        "Memory of Redis",
        "ackstream:redis_memory:max",
        "max(ackstream_redis_memory_ratio)",
        "percentunit",
        "used",
    ),
    Recorded(
        "Groups",
        "Events handled a second",
        "ackstream:events_handled:rate5m",
        _HANDLED,
        "ops",
        "{{group}}",
    ),
    Recorded(
        "Groups",
        "Duration of a call",
        "ackstream:handle_seconds:p99_5m",
        _quantile(0.99, "ackstream_handle_seconds", "group, "),
        "s",
        "{{group}} p99",
    ),
    Recorded(
        "Groups",
        "Share of calls that fail",
        "ackstream:handler_failures:ratio5m",
        f"{_FAILURES}\n/ ({_HANDLED} + {_FAILURES})",
        "percentunit",
        "{{group}}",
    ),
    Recorded(
        "Groups",
        "Outstanding entries",
        "ackstream:outstanding:max",
        "max by (group) (ackstream_outstanding)",
        "short",
        "{{group}}",
    ),
    Recorded(
        "Groups",
        "Age of the oldest entry",
        "ackstream:oldest_seconds:max",
        "max by (group) (ackstream_oldest_seconds)",
        "s",
        "{{group}}",
    ),
    Recorded(
        "Groups",
        "Dead letters",
        "ackstream:dead_letters:max",
        "max by (group) (ackstream_dead_letters)",
        "short",
        "{{group}}",
    ),
    Recorded(
        "Processes",
        "Processes that answer",
        "ackstream:processes:count",
        "count by (kind) (ackstream_process)",
        "short",
        "{{kind}}",
    ),
    Recorded(
        "Processes",
        "Live consumers",
        "ackstream:live_consumers:max",
        "max by (group) (ackstream_live_consumers)",
        "short",
        "{{group}}",
    ),
    Recorded(
        "Processes",
        "Alerts that fire",
        "ackstream:alerts_firing:count",
        'count by (alertname) (ALERTS{alertname=~"Ackstream.+", alertstate="firing"})',
        "short",
        "{{alertname}}",
    ),
)
