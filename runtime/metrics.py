"""Metrics of every process. Each help text says what to do when the metric rises."""

from prometheus_client import Counter

SUPPRESSED = Counter(
    "ackstream_log_lines_suppressed_total",
    "Log lines suppressed because too many came from the same place, by logger. Rises: read the lines that were "
    "written.",
    ["logger"],
)
LOST = Counter(
    "ackstream_log_lines_lost_total",
    "Log lines that could not be written: standard output is closed, full or not read. Rises: check the program that "
    "reads the logs; nothing else waits for it.",
)
