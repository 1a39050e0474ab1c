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
TROUBLE = Counter(
    "ackstream_redis_trouble_total",
    "How often a worker had to begin again because of Redis, by group and kind; it waits in between, and acks and "
    "gives up nothing. away, silent, stalled, loading, busy, deposed, leaderless, crowded: look at Redis, its clients "
    "and the network. full, unwritable: give it memory or disk. denied, unfit: look at its password and rights. gone, "
    "mistaken: somebody removed or replaced keys. /ready and the log say it in words.",
    ["group", "trouble"],
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
