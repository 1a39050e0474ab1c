"""Ingest's metrics: what each counts, and what to do when it rises."""

from prometheus_client import Counter, Gauge, Histogram

from ingest.counter import Tally

WEBHOOKS = Tally(
    "ackstream_webhooks",
    "Webhooks by answer. 503 rises: Redis is away and the spool cannot take them either (see "
    "ackstream_spool_refused_total), or the webhooks are not signed. 4xx rises: somebody other than the provider "
    "calls, or its settings are wrong; the log says more (webhook.refused). check: an empty request, as Vonage sends "
    "one before it saves a URL. 500 is a fault of ours: look for ingest.failed in the log.",
    ["answer"],
)
SIGNATURES = Tally(
    "ackstream_signatures_refused",
    "Webhooks without a signature, or with a wrong one and why. unsigned rises: someone else calls, or the account has "
    "signed webhooks switched off. wrong rises: someone forges, or a secret is missing or old "
    "(`ackstream quarantine list`).",
    ["result"],
)
ACCOUNTS = Tally(
    "ackstream_webhooks_proved",
    "Webhooks whose signature is right, by kind, account and application. Falls to 0 for one of them: it was cut off, "
    "or its secret has changed.",
    ["verified", "account", "application"],
)
QUARANTINED = Tally(
    "ackstream_quarantined",
    "Payloads with a wrong signature that may be the provider's, by result. kept, or repeated: see "
    "`ackstream quarantine list`. full: its budget is used up. forgotten: too many at once, or Redis took none.",
    ["result"],
)
CONNECTIONS = Gauge(
    "ackstream_connections",
    "Connections that are open on the webhooks' port. Near ACKSTREAM_CONNECTIONS: someone holds on to them; "
    "those of no use for the longest are given up for new ones.",
)
CONNECTIONS_CLOSED = Counter(
    "ackstream_connections_closed_total",
    "Connections given up, by why. head: no whole request head in time, or one that is too large; body: no whole body "
    "in time; answer: the client does not take its answer; room: its place was needed. Rises: slow or hostile clients, "
    "or a bad network; let only the provider reach the port.",
    ["why"],
)
BODY_BYTES = Gauge(
    "ackstream_body_bytes",
    "Bytes of bodies in memory, being read or waiting to be kept. At 64 MiB more are answered 503: Redis is slow, or "
    "someone sends much and slowly.",
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
    "Batches that Redis did not confirm, by trouble. They went to the spool: look at Redis.",
    ["trouble"],
)
APPENDED = Counter(
    "ackstream_appended_entries_total",
    "Entries that Redis confirmed as they came. With those that were spooled, all that were answered 200.",
)
BREAKER = Gauge(
    "ackstream_breaker_state",
    "0: entries go to Redis. 1: they go to the spool. Stays at 1: look at Redis; ackstream_redis_down and the log say "
    "why.",
)
REDIS_DOWN = Gauge(
    "ackstream_redis_down",
    "1 while ingest gives Redis no entries, by fault. denied, wrong-type, cluster, unsupported, durability: somebody "
    "has to act (the log says what to do), and the spool fills until then. Others usually end by themselves.",
    ["fault"],
)
SPOOLED = Counter(
    "ackstream_spooled_entries_total",
    "Entries kept in the spool because Redis did not take them, by why. memory: Redis is nearly full. durability: its "
    "settings are weaker than ACKSTREAM_ACK=fsync asks for. Others: as in the log. "
    "found + spooled = drained + in the spool + set aside.",
    ["why"],
)
SPOOL_FOUND = Counter(
    "ackstream_spool_found_entries_total",
    "Entries found in the spool at the start, or taken over from a process that died.",
)
SPOOL_FOREIGN = Gauge(
    "ackstream_spool_foreign_entries",
    "Entries in folders of the spool that belong to another stream or Redis server, or to one that has not answered "
    "yet. Stays above 0: `ackstream spool list` shows whose they are, `ackstream spool adopt` drains them here.",
)
SPOOL_DRAINED = Counter(
    "ackstream_spool_drained_entries_total",
    "Entries given from the spool to Redis, and confirmed. Does not rise while Redis is there and the spool holds "
    "entries: look at the log.",
)
SPOOL_ENTRIES = Gauge("ackstream_spool_entries", "Entries in the spool. Rises while Redis does not take them.")
SPOOL_BYTES = Gauge(
    "ackstream_spool_bytes",
    "What they take, about. At ACKSTREAM_SPOOL_BYTES the provider is answered 503: bring Redis back.",
)
SPOOL_OLDEST = Gauge(
    "ackstream_spool_oldest_seconds",
    "How long ago the oldest entry in the spool was received; 0 if the spool is empty. Rises: Redis is away, or the "
    "log says why a file cannot be read.",
)
SPOOL_SECONDS = Histogram(
    "ackstream_spool_seconds",
    "Seconds until a batch is on the spool's disk. Rises: the disk is slow.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
SPOOL_REFUSED = Counter(
    "ackstream_spool_refused_total",
    "Entries that the spool could not take either, answered 503, by why. full: ACKSTREAM_SPOOL_BYTES is reached. "
    "volume: the volume is nearly full. disk: it is full. failing: writing or fsync failed. stuck: it does not answer.",
    ["why"],
)
SPOOL_SET_ASIDE = Counter(
    "ackstream_spool_set_aside_entries_total",
    "Entries of the spool that are damaged, as far as is known how many. Rises: answered 200 and not on the stream; "
    "their file is kept as NAME.damaged; replace the disk.",
)
SPOOL_FILES = Counter(
    "ackstream_spool_file_faults_total",
    "Files of the spool that were given up, by why. failing: fsync or I/O failed, a new one was started, and its "
    "entries are drained. damaged: set aside. Rises: look at the disk.",
    ["why"],
)
DURABLE = Gauge(
    "ackstream_redis_durable",
    "1: Redis writes every append to its disk before it confirms it, and drops nothing. 0: it does not, or does not "
    "say; the log says which setting.",
)
MEMORY = Gauge(
    "ackstream_redis_memory_ratio",
    "Memory that Redis uses, as a share of its maxmemory. At 0.95 entries go to the spool: trim, or give it more.",
)
