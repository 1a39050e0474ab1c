"""Every metric in one table: what it counts, and what to do when it rises."""

from prometheus_client import Counter, Gauge, Histogram

WEBHOOKS = Counter(
    "ackstream_webhooks_total",
    "Webhooks by answer. 503 rises: Redis is slow, full or away (see ackstream_append_failures_total). "
    "4xx rises: someone else than the provider calls, or its settings are wrong.",
    ["answer"],
)
SIGNATURES = Counter(
    "ackstream_signatures_refused_total",
    "Webhooks without a signature, or with a wrong one and why. unsigned rises: someone else calls, or the account has "
    "signed webhooks switched off. wrong rises: someone forges, or a secret is missing or old "
    "(`ackstream quarantine list`).",
    ["result"],
)
ACCOUNTS = Counter(
    "ackstream_webhooks_proved_total",
    "Webhooks whose signature is right, by kind, account and application. Falls to 0 for one of them: it was cut off, "
    "or its secret has changed.",
    ["verified", "account", "application"],
)
QUARANTINED = Counter(
    "ackstream_quarantined_total",
    "Payloads with a wrong signature, kept for `ackstream quarantine` or forgotten for want of room. Rises: see "
    "ackstream_signatures_refused_total.",
    ["result"],
)
APPEND_SECONDS = Histogram(
    "ackstream_append_seconds",
    "Seconds from a batch's first byte to Redis until it is confirmed. Rises: look at Redis's disk and load.",
    buckets=(
        0.0005,
        0.001,
        0.0025,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1,
        2.5,
        5,
    ),
)
APPEND_ENTRIES = Histogram(
    "ackstream_append_entries",
    "Entries per group commit. Rises with load and with a slow Redis; at its limit of 256, Redis is the bottleneck.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
APPEND_FAILURES = Counter(
    "ackstream_append_failures_total",
    "Batches that Redis did not confirm, by error. Their webhooks were answered 503: look at Redis.",
    ["error"],
)
READ = Counter("ackstream_entries_read_total", "Entries read from the stream, by group.", ["group"])
CLAIMED = Counter(
    "ackstream_entries_claimed_total",
    "Entries taken over from workers that died or hung, by group. Rises: look for crashes and stalls of workers.",
    ["group"],
)
HANDLED = Counter(
    "ackstream_events_handled_total",
    "Events that the group's handler has handled.",
    ["group"],
)
BURIED = Counter(
    "ackstream_dead_letters_total",
    "Entries given up, by group and reason. Rises: `ackstream dead-letters list`.",
    ["group", "reason"],
)
HANDLER_FAILURES = Counter(
    "ackstream_handler_failures_total",
    "Batches whose handler failed and that are tried again, by group and error. Rises: look at the handler's target.",
    ["group", "error"],
)
DROPPED = Counter(
    "ackstream_batches_dropped_total",
    "Batches dropped unsettled because this worker was late or lost Redis; others claim them. "
    "Rises: the worker stalls (CPU, swap, a blocking handler) or Redis is unsteady.",
    ["group"],
)
HANDLE_SECONDS = Histogram(
    "ackstream_handle_seconds",
    "Seconds a batch spends in its handler. Rises: the handler's target (database, service) is slow.",
    ["group"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
LAST_READ = Gauge(
    "ackstream_last_read_timestamp_seconds",
    "When the group last had an answer from Redis, empty or not. Stands still: the worker hangs or Redis is away.",
    ["group"],
)
TRIMMED = Counter("ackstream_trimmed_entries_total", "Entries that retention has removed from the stream.")
ARCHIVED = Counter(
    "ackstream_archived_entries_total",
    "Entries written to the archive. Rises faster than ackstream_trimmed_entries_total: workers are killed while they "
    "archive, and archive the same again.",
)
TRIM_FAILURES = Counter(
    "ackstream_trim_failures_total",
    "Failed attempts to trim, by error. `archive`: its disk is full or away, and nothing is trimmed until it is back. "
    "Anything else: look at Redis, and at the rights of the worker's user.",
    ["error"],
)
LAST_TRIM = Gauge(
    "ackstream_last_trim_timestamp_seconds",
    "When this worker last removed entries. Stands still on all workers while the stream grows beyond its retention: "
    "see ackstream_trim_failures_total and ackstream_held_entries.",
)
STREAM_ENTRIES = Gauge(
    "ackstream_stream_entries", "Entries on the stream, told by the worker that trims it.", ["shard"]
)
STREAM_BYTES = Gauge(
    "ackstream_stream_bytes",
    "Bytes that the stream takes, estimated from its oldest part. Rises to the server's maxmemory: see "
    "ackstream_held_entries, or lower ACKSTREAM_RETENTION_BYTES.",
    ["shard"],
)
HELD_ENTRIES = Gauge(
    "ackstream_held_entries",
    "Entries that a group has not read or not acked, while it keeps the stream from being trimmed to its retention. "
    "Rises: start workers for the group, or `ackstream groups drop` it.",
    ["group"],
)
HELD_SECONDS = Gauge(
    "ackstream_held_seconds",
    "The age of the oldest entry that such a group needs. Rises: as above.",
    ["group"],
)
MISSING = Counter(
    "ackstream_missing_entries_total",
    "Entries that have left the stream otherwise than by retention. Rises: somebody trims or deletes, the server "
    "evicts, or it came back without its last entries; what a group had not handled by then is lost to it (log: "
    "retention.missing).",
)
