"""A worker's metrics: what each counts, and what to do when it rises."""

from prometheus_client import Counter, Gauge, Histogram

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
    "ackstream_events_deduplicated_total",
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
    "somebody sends payloads that hold no status (`ackstream invalid list`). dropped: raise ACKSTREAM_INVALID_ENTRIES "
    "or _BYTES.",
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
    "1 while the group is paused, by why. failing: nearly everything fails; look at the handler, or its target, and "
    "the group resumes by itself. dead-letters: too many; `ackstream dead-letters`. gone: the target wants no more; "
    "`ackstream groups resume`. backlog: see ackstream_backlog_bytes; retries continue.",
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
REDIS_FAULTS = Counter(
    "ackstream_redis_faults_total",
    "How often a worker had to start again because of Redis, by group and kind; it waits in between, and acks and "
    "gives up nothing. away, silent, stalled, loading, busy, read-only, no-primary, max-clients: look at Redis, its "
    "clients and the network. full, unwritable: give it memory or disk. denied, unsupported: look at its password and "
    "rights. gone, wrong-type: somebody removed or replaced keys. /ready and the log say it in words.",
    ["group", "fault"],
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
    "When the group last had an answer from Redis, empty or not. Does not change: the worker hangs or Redis is away.",
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
    "How often the copying was interrupted, by error; it continues by itself. Rises: look at Redis.",
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
    "When this worker last removed entries. Does not change on any worker while the stream grows beyond its retention: "
    "see ackstream_trim_failures_total and ackstream_retention_blocked_entries.",
)
STREAM_ENTRIES = Gauge(
    "ackstream_stream_entries", "Entries on the stream, counted by the worker that trims it.", ["shard"]
)
STREAM_BYTES = Gauge(
    "ackstream_stream_bytes",
    "Bytes that the stream takes, estimated from its oldest part. Rises to the server's maxmemory: see "
    "ackstream_retention_blocked_entries, or lower ACKSTREAM_RETENTION_BYTES.",
    ["shard"],
)
RETENTION_BLOCKED_ENTRIES = Gauge(
    "ackstream_retention_blocked_entries",
    "Entries that a group has not read or not acked, while it keeps the stream from being trimmed to its retention. "
    "Rises: start workers for the group, or `ackstream groups drop` it.",
    ["group"],
)
RETENTION_BLOCKED_SECONDS = Gauge(
    "ackstream_retention_blocked_seconds",
    "The age of the oldest entry that such a group needs. Rises: as above.",
    ["group"],
)
MISSING = Counter(
    "ackstream_missing_entries_total",
    "Entries that have left the stream otherwise than by retention. Rises: somebody trims or deletes, the server "
    "evicts, or it came back without its last entries; entries that a group had not handled by then are lost to it "
    "(log: retention.missing).",
)
