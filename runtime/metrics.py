"""Every metric in one table: what it counts, and what to do when it rises."""

from prometheus_client import Counter, Gauge, Histogram

from runtime.counter import Tally

WEBHOOKS = Tally(
    "ackstream_webhooks",
    "Webhooks by answer. 503 rises: Redis is away and the spool cannot take them either (see "
    "ackstream_spool_refused_total), or what comes is not signed. 4xx rises: someone else than the provider calls, or "
    "its settings are wrong; the log says more (webhook.refused). check: an empty request, as Vonage sends one before "
    "it saves a URL. 500 is a fault of ours: look for ingest.failed in the log.",
    ["answer"],
)
SIGNATURES = Counter(
    "ackstream_signatures_refused_total",
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
QUARANTINED = Counter(
    "ackstream_quarantined_total",
    "Payloads with a wrong signature that may be the provider's, by what became of them. kept, or repeated: see "
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
    "has to act (the log says what to do), and the spool fills meanwhile. Others usually end by themselves.",
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
    "How long ago the oldest entry in the spool was received; 0 if there is none. Rises: Redis is away, or the log "
    "says why a file cannot be read.",
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
    "their file is kept as NAME.damaged, and the disk is to be replaced.",
)
SPOOL_FILES = Counter(
    "ackstream_spool_file_faults_total",
    "Files of the spool that were given up, by why. failing: fsync or I/O failed, a new one was begun, and what is in "
    "it is drained. damaged: set aside. Rises: look at the disk.",
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
DEAD_LETTERS = Counter(
    "ackstream_dead_letters_total",
    "Entries given up, by group and reason. Rises: `ackstream dead-letters list`.",
    ["group", "reason"],
)
DEDUPLICATED = Counter(
    "ackstream_events_repeated_total",
    "Events that the group had handled before, settled without a second call. Rises: the provider sends again what was "
    "answered too late, or not at all.",
    ["group"],
)
FILTERED = Counter(
    "ackstream_events_filtered_total",
    "Events that a handler's options `only` and `channel` leave out, settled without a call. Nothing to do, unless the "
    "options leave out more than they should.",
    ["group"],
)
INVALID = Counter(
    "ackstream_invalid_payloads_total",
    "Invalid payloads without a right signature: recorded once for all groups, or dropped for newer ones. Rises: "
    "somebody sends what is no status (`ackstream invalid list`). dropped: raise ACKSTREAM_INVALID_ENTRIES or _BYTES.",
    ["result"],
)
HANDLER_FAILURES = Counter(
    "ackstream_handler_failures_total",
    "Events at which the group's handler failed, by error; Unavailable counts how often its target was found away. "
    "Rises: look at the handler, or its target.",
    ["group", "error"],
)
PAUSED = Gauge(
    "ackstream_group_paused",
    "1 while the group is paused, by why. failing: nearly everything fails; look at the handler, or its target, and it "
    "goes on by itself. dead-letters: too many; `ackstream dead-letters`. gone: the target wants no more; "
    "`ackstream groups resume`. backlog: see ackstream_backlog_bytes; retries go on.",
    ["group", "why"],
)
BACKLOG_BYTES = Gauge(
    "ackstream_backlog_bytes",
    "Bytes of the group's delayed retries and dead letters. At ACKSTREAM_BACKLOG_BYTES, or when Redis is out of "
    "memory, the group handles no live entries: replay or discard dead letters, or mend the handler.",
    ["group"],
)
DELAYED = Counter(
    "ackstream_events_delayed_total",
    "Events whose attempt failed and that wait for another one, by group. Rises: see ackstream_handler_failures_total.",
    ["group"],
)
RETRIED = Counter(
    "ackstream_events_retried_total",
    "Delayed events that have become due, by group. Stays behind the delayed ones: no worker of the group runs.",
    ["group"],
)
ATTEMPTS = Histogram(
    "ackstream_attempts",
    "Attempts that an event had taken when it was handled or given up, if more than one. "
    "Rises: the handler's target is away for longer, or events fail that never succeed.",
    ["group"],
    buckets=(2, 3, 4, 6, 8, 12, 16, 24, 48),
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
    "gives up nothing. away, silent, stalled, loading, busy, read-only, no-primary, max-clients: look at Redis, its "
    "clients and the network. full, unwritable: give it memory or disk. denied, unsupported: look at its password and "
    "rights. gone, wrong-type: somebody removed or replaced keys. /ready and the log say it in words.",
    ["group", "trouble"],
)
HANDLE_SECONDS = Histogram(
    "ackstream_handle_seconds",
    "Seconds that a call of the handler takes, for a batch or for one event. "
    "Rises: the handler's target (database, service) is slow.",
    ["group"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
LAST_READ = Gauge(
    "ackstream_last_read_timestamp_seconds",
    "When the group last had an answer from Redis, empty or not. Stands still: the worker hangs or Redis is away.",
    ["group"],
)
REPLAYED = Counter(
    "ackstream_replayed_entries_total",
    "Entries given to a group again. Does not rise while `ackstream replay list` shows one that runs: see the two "
    "below, and whether a worker of the group runs.",
    ["group"],
)
REPLAY_FAILURES = Counter(
    "ackstream_replay_failures_total",
    "How often the copying was interrupted, by error; it goes on by itself. Rises: look at Redis.",
    ["group", "error"],
)
REPLAY_UNREAD = Gauge(
    "ackstream_replay_entries",
    "Copies that the group has before it. At 10,000 the copying waits: the handler is slower than the rate.",
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
