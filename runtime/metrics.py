"""Metrics of every process. Each help text says what to do when the metric rises."""

from prometheus_client import Counter, Gauge

PROCESS = Gauge(
    "ackstream_process",
    "1, with the kind of the process: ingest, worker or console. Absent: no process of this kind answers.",
    ["kind"],
)
READ_AT = Gauge(
    "ackstream_metrics_read_timestamp_seconds",
    "When a program other than the web console last read these metrics, in seconds since 1970; 0: never. Stays: check "
    "that Prometheus has this process as a target.",
)
CHILD_DEATHS = Counter(
    "ackstream_child_deaths_total",
    "Processes of ACKSTREAM_PROCESSES that ended by themselves or hung, and were replaced. Rises: search the log for "
    "supervisor.child_died and supervisor.child_hangs, and the memory of the machine.",
)
SUPPRESSED = Counter(
    "ackstream_log_lines_suppressed_total",
    "Log lines suppressed because too many came from the same place, by logger. Rises: read the lines that were "
    "written.",
    ["logger"],
)
SPANS_DROPPED = Counter(
    "ackstream_spans_dropped_total",
    "Spans that did not reach the endpoint of OpenTelemetry, by reason (why). full: more ended than could be sent; "
    "lower OTEL_TRACES_SAMPLER_ARG, or raise OTEL_BSP_MAX_QUEUE_SIZE. failed: the endpoint was away, slow or refused "
    "them (see tracing.export_failed in the log). stopped: they waited when the process ended. Nothing else waits for "
    "them.",
    ["why"],
)
LOST = Counter(
    "ackstream_log_lines_lost_total",
    "Log lines that could not be written: standard output is closed, full or not read. Rises: check the program that "
    "reads the logs; nothing else waits for it.",
)
