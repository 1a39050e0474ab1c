"""The metrics of every process: what each counts, and what to do when it rises."""

from prometheus_client import Counter

SUPPRESSED = Counter(
    "ackstream_log_lines_suppressed_total",
    "Log lines left out because there were too many like them, by logger. Rises: look at those that were written.",
    ["logger"],
)
LOST = Counter(
    "ackstream_log_lines_lost_total",
    "Log lines that could not be written: standard output is closed, full or not read. Rises: look at what takes the "
    "logs; nothing else is held up by it.",
)
