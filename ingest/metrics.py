"""Ingest's metrics. Each help text says what to do when the metric rises."""

from prometheus_client import Counter, Gauge, Histogram

from ingest.counter import DurationCounts, Tally

WEBHOOKS = Tally(
    "ackstream_webhooks",
    "Webhooks by answer. 503 rises: Redis is away and the spool cannot store them either (see "
    "ackstream_spool_refused_total), or the webhooks are not signed. 4xx rises: another client than the provider "
    "calls, or its settings are wrong; the log has the reason (webhook.refused). check: an empty request; Vonage sends "
    "one before it saves a URL. 500: an error in Ackstream; search the log for ingest.failed.",
    ["answer"],
)
ANSWER_SECONDS = DurationCounts(
    "ackstream_answer_seconds",
    "Seconds from the receipt of a request's head to its answer, without health checks. Rises: compare with "
    "ackstream_append_seconds (Redis) and ackstream_spool_seconds (the disk); if both are low, ingest is short of CPU, "
    "or clients send their bodies slowly. The provider sends a webhook again that is answered too late.",
    (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
SIGNATURES = Tally(
    "ackstream_signatures_refused",
    "Webhooks without a signature (unsigned) or with a wrong one (wrong, with the reason). unsigned rises: another "
    "client than the provider calls, or signed webhooks are off for the account. wrong rises: a client forges "
    "webhooks, or a secret is missing or old (`ackstream quarantine list`).",
    ["result"],
)
ACCOUNTS = Tally(
    "ackstream_webhooks_verified",
    "Webhooks with a valid signature that were answered 200, by kind, account and application. Stops rising for an "
    "account: the provider no longer sends its webhooks, or its secret has changed.",
    ["verified", "account", "application"],
)
QUARANTINED = Tally(
    "ackstream_quarantined",
    "Payloads with a wrong signature that may be the provider's, by result. kept or repeated: see "
    "`ackstream quarantine list`. full: the account's budget is used up. forgotten: too many at once, or Redis is "
    "away.",
    ["result"],
)
CONNECTIONS = Gauge(
    "ackstream_connections",
    "Open connections on the webhooks' port. Near ACKSTREAM_CONNECTIONS: a client keeps many open; the least recently "
    "useful ones are closed for new ones.",
)
CONNECTIONS_CLOSED = Counter(
    "ackstream_connections_closed_total",
    "Connections closed by Ackstream, by reason (why). head: the request head was late or too large; body: the body "
    "was late; answer: the client does not read its answer; room: closed for a new connection. Rises: slow or hostile "
    "clients, or a bad network; let only the provider reach the port.",
    ["why"],
)
BODY_BYTES = Gauge(
    "ackstream_body_bytes",
    "Bytes of request bodies in memory, while they are read or wait to be stored. At 64 MiB further ones are answered "
    "503: Redis is slow, or a client sends large bodies slowly.",
)
APPEND_SECONDS = Histogram(
    "ackstream_append_seconds",
    "Seconds from the start of sending a batch to Redis until its confirmation. Rises: check Redis's disk and load.",
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
    "Batches that Redis did not confirm, by fault. They went to the spool. Rises: check Redis.",
    ["fault"],
)
APPENDED = Counter(
    "ackstream_appended_entries_total",
    "Entries that Redis confirmed without the spool. Together with the spooled entries, all that were answered 200.",
)
BREAKER = Gauge(
    "ackstream_breaker_state",
    "0: entries go to Redis. 1: entries go to the spool, or on a cluster to other shards. Stays at 1: check Redis; "
    "ackstream_redis_down and the log have the reason.",
)
REDIS_DOWN = Gauge(
    "ackstream_redis_down",
    "1 while ingest sends entries to the spool instead of Redis, by fault; on a cluster while a shard gets none. "
    "denied, wrong-type, cluster, no-cluster, unsupported, durability: an operator has to act (the log has the next "
    "step), and the spool fills until then. Other faults usually end by themselves.",
    ["fault"],
)
SPOOLED = Counter(
    "ackstream_spooled_entries_total",
    "Entries stored in the spool because Redis did not accept them, by reason (why). memory: Redis is nearly full. "
    "durability: its settings are weaker than ACKSTREAM_ACK=fsync requires. Other reasons: as in the log. "
    "found + spooled = drained + in the spool + set aside.",
    ["why"],
)
SPOOL_FOUND = Counter(
    "ackstream_spool_found_entries_total",
    "Entries found in the spool at the start, or taken over from a dead process.",
)
SPOOL_FOREIGN = Gauge(
    "ackstream_spool_foreign_entries",
    "Entries in spool folders of another stream or Redis server, or of a server that has not answered yet. Stays above "
    "0: `ackstream spool list` shows their owners, `ackstream spool adopt` drains them here.",
)
SPOOL_DRAINED = Counter(
    "ackstream_spool_drained_entries_total",
    "Entries of the spool that Redis confirmed. Does not rise although Redis is up and the spool holds entries: check "
    "the log.",
)
SPOOL_ENTRIES = Gauge("ackstream_spool_entries", "Entries in the spool. Rises while Redis does not accept entries.")
SPOOL_BYTES = Gauge(
    "ackstream_spool_bytes",
    "Approximate size of the entries in the spool. At ACKSTREAM_SPOOL_BYTES webhooks are answered 503: restore Redis.",
)
SPOOL_LIMIT = Gauge(
    "ackstream_spool_limit_bytes",
    "ACKSTREAM_SPOOL_BYTES, the limit of ackstream_spool_bytes. Nothing to do: alerts compare the two.",
)
SPOOL_OLDEST = Gauge(
    "ackstream_spool_oldest_seconds",
    "Age of the oldest entry in the spool; 0 if the spool is empty. Rises: Redis is away, or a file cannot be read "
    "(see the log).",
)
SPOOL_SECONDS = Histogram(
    "ackstream_spool_seconds",
    "Seconds to write a batch to the spool's disk. Rises: the disk is slow.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
SPOOL_REFUSED = Counter(
    "ackstream_spool_refused_total",
    "Entries that the spool could not store either, answered 503, by reason (why). full: ACKSTREAM_SPOOL_BYTES is "
    "reached. volume: the volume is nearly full. disk: the disk is full. failing: writing or fsync failed. stuck: the "
    "disk does not answer.",
    ["why"],
)
SPOOL_SET_ASIDE = Counter(
    "ackstream_spool_set_aside_entries_total",
    "Damaged entries of the spool, as far as they can be counted. Rises: entries were answered 200 and are not on the "
    "stream; their file is kept as NAME.damaged; replace the disk.",
)
SPOOL_FILES = Counter(
    "ackstream_spool_file_faults_total",
    "Sealed files of the spool, by reason (why). failing: fsync or I/O failed, a new file was created, and the entries "
    "of the old one are drained. damaged: set aside. Rises: check the disk.",
    ["why"],
)
DURABLE = Gauge(
    "ackstream_redis_durable",
    "1: Redis writes every append to its disk before it confirms it, and evicts nothing. 0: it does not, or does not "
    "show its settings; the log names the setting.",
)
MEMORY = Gauge(
    "ackstream_redis_memory_ratio",
    "Memory that Redis uses, as a share of maxmemory. At 0.95 entries go to the spool: trim, or raise maxmemory.",
)
