"""The metrics of a worker. Each help text says how to react when the metric rises."""

from prometheus_client import Counter, Gauge, Histogram

READ = Counter("ackstream_entries_read_total", "Entries read from the stream, by group.", ["group"])
CLAIMED = Counter(
    "ackstream_entries_claimed_total",
    "Entries claimed from workers that died or hung, by group. Rises: look for crashes and stalls of workers.",
    ["group"],
)
HANDLED = Counter(
    "ackstream_events_handled_total",
    "Events that the handler of the group has handled.",
    ["group"],
)
DEAD_LETTERS = Counter(
    "ackstream_dead_letters_total",
    "Dead letters, by group and reason. Rises: see `ackstream dead-letters list`.",
    ["group", "reason"],
)
DEDUPLICATED = Counter(
    "ackstream_events_deduplicated_total",
    "Events that the group had handled before and settled without a second call. Rises: the provider sends webhooks "
    "again because ingest answered them too late, or not at all.",
    ["group"],
)
FILTERED = Counter(
    "ackstream_events_filtered_total",
    "Events that the options `only` and `channel` of a handler exclude, settled without a call. Rises: nothing to do, "
    "unless the options exclude too many events.",
    ["group"],
)
INVALID = Counter(
    "ackstream_invalid_payloads_total",
    "Invalid payloads without a valid signature: recorded once for all groups, or dropped to make room for newer ones. "
    "Rises: a client sends payloads without a status; see `ackstream invalid list`. dropped: raise "
    "ACKSTREAM_INVALID_ENTRIES or ACKSTREAM_INVALID_BYTES.",
    ["result"],
)
CLEANED = Counter(
    "ackstream_old_records_removed_total",
    "Records that were removed for their age, by kind: the settings ACKSTREAM_<KIND>_RETENTION. Rises: nothing to do.",
    ["kind"],
)
HANDLER_FAILURES = Counter(
    "ackstream_handler_failures_total",
    "Events that the handler of the group failed to handle, by error; Unavailable counts how often its target was "
    "away. Rises: look at the handler, or its target.",
    ["group", "error"],
)
PAUSED = Gauge(
    "ackstream_group_paused",
    "1 while the group is paused, by reason. failing: nearly all calls fail; look at the handler, or its target. The "
    "group resumes by itself. dead-letters: there are too many; see `ackstream dead-letters`. gone: the target refuses "
    "all further events; run `ackstream groups resume` to continue. operator: a person paused it; the same command "
    "ends it. backlog: see ackstream_backlog_bytes; retries continue.",
    ["group", "why"],
)
TARGET_AWAY = Gauge(
    "ackstream_target_away",
    "1 while the target of the handler is away, so that its events wait. Stays at 1: look at the target, for store at "
    "the database; /ready and the log line handler.unavailable have the reason.",
    ["group"],
)
BACKLOG_BYTES = Gauge(
    "ackstream_backlog_bytes",
    "Bytes of the delayed retries and dead letters of the group. At ACKSTREAM_BACKLOG_BYTES, or when Redis is out of "
    "memory, the group handles no live entries: replay or discard dead letters, or correct the handler.",
    ["group"],
)
DELAYED = Counter(
    "ackstream_events_delayed_total",
    "Events whose attempt failed and that wait for their next attempt, by group. Rises: see "
    "ackstream_handler_failures_total.",
    ["group"],
)
RETRIED = Counter(
    "ackstream_events_retried_total",
    "Delayed events that have become due, by group. Rises more slowly than ackstream_events_delayed_total: check "
    "whether a worker of the group runs.",
    ["group"],
)
ATTEMPTS = Histogram(
    "ackstream_attempts",
    "Attempts of an event when it was handled or dead-lettered, if there were at least two. "
    "Rises: the target of the handler is away for longer, or some events always fail.",
    ["group"],
    buckets=(2, 3, 4, 6, 8, 12, 16, 24, 48),
)
DROPPED = Counter(
    "ackstream_batches_dropped_total",
    "Batches dropped unsettled because this worker missed its heartbeat or lost Redis; other workers claim them. "
    "Rises: the worker stalls (CPU, swap, a blocking handler) or Redis is unstable.",
    ["group"],
)
REDIS_FAULTS = Counter(
    "ackstream_redis_faults_total",
    "How often a Redis fault made a worker start its loop again, by group and fault. The worker waits and then starts "
    "again; it settles nothing in between. away, silent, stalled, loading, busy, read-only, no-primary, max-clients: "
    "look at Redis, its clients and the network. full, unwritable: give it memory or disk. denied, unsupported: look "
    "at its password and rights. gone, wrong-type: keys were removed or replaced. /ready and the log describe the "
    "fault.",
    ["group", "fault"],
)
HANDLE_SECONDS = Histogram(
    "ackstream_handle_seconds",
    "Seconds of a handler call, for a batch or for one event. "
    "Rises: the target of the handler (database, service) is slow.",
    ["group"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
LAST_READ = Gauge(
    "ackstream_last_read_timestamp_seconds",
    "When Redis last answered a read of the group, with or without entries. Does not change: the worker hangs or Redis "
    "is away.",
    ["group"],
)
REPLAYED = Counter(
    "ackstream_replayed_entries_total",
    "Entries that a replay has copied for a group. Does not rise while `ackstream replay list` shows a running replay: "
    "see ackstream_replay_failures_total and ackstream_replay_entries, and check whether a worker of the group runs.",
    ["group"],
)
REPLAY_FAILURES = Counter(
    "ackstream_replay_failures_total",
    "How often a replay was interrupted, by error. It continues by itself. Rises: look at Redis.",
    ["group", "error"],
)
REPLAY_UNREAD = Gauge(
    "ackstream_replay_entries",
    "Copies of replays that the group has not read. At 10,000 the replay waits, because the handler is slower than its "
    "rate.",
    ["group", "shard"],
)
SHARDS_OWNED = Gauge(
    "ackstream_shards_owned",
    "Shards that this worker handles for the group in order mode. The sum over all workers is below the number of "
    "shards: no worker has taken a shard; look at ackstream_redis_faults_total, and start workers.",
    ["group"],
)
ORDER_WAITING = Gauge(
    "ackstream_order_waiting_entries",
    "Entries that wait in order mode for an earlier event of their message, by group and shard. Rises: the handler is "
    "slow, or events of these messages fail; see ackstream_handler_failures_total.",
    ["group", "shard"],
)
ORDER_OVERLAPS = Counter(
    "ackstream_order_overlaps_total",
    "Events whose call ran in order mode when this worker had missed its heartbeat for 10 seconds, or had taken a new "
    "name: another worker may have called its handler with them too. Rises: the worker stalls (CPU, swap, a blocking "
    "handler, a stopped machine), or Redis was away.",
    ["group"],
)
ORDER_REFUSED = Counter(
    "ackstream_order_refused_total",
    "Reads and settlements that Redis refused in order mode because this worker did not own the shard: another worker "
    "had taken it over, or this one had taken a new name. Rises: see ackstream_order_overlaps_total.",
    ["group"],
)
TRIMMED = Counter("ackstream_trimmed_entries_total", "Entries that retention has removed from the stream.")
ARCHIVED = Counter(
    "ackstream_archived_entries_total",
    "Entries written to the archive. Rises faster than ackstream_trimmed_entries_total: workers are killed while they "
    "archive, and the next worker archives the same entries again.",
)
TRIM_FAILURES = Counter(
    "ackstream_trim_failures_total",
    "Failed attempts to trim, by error. `archive`: its disk is full or away; the stream is not trimmed until the disk "
    "is back. Other errors: look at Redis, and at the rights of the Redis user of the worker.",
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
    "Bytes of the stream, estimated from its oldest part. Rises to maxmemory of the server: see "
    "ackstream_retention_blocked_entries, or lower ACKSTREAM_RETENTION_BYTES.",
    ["shard"],
)
RETENTION_BLOCKED_ENTRIES = Gauge(
    "ackstream_retention_blocked_entries",
    "Entries that a group has not settled and that therefore stay on the stream beyond its retention. "
    "Rises: start workers for the group, or remove it with `ackstream groups drop`.",
    ["group", "shard"],
)
RETENTION_BLOCKED_SECONDS = Gauge(
    "ackstream_retention_blocked_seconds",
    "Age of the oldest entry that a group of ackstream_retention_blocked_entries has not settled. Rises: start workers "
    "for the group, or remove it with `ackstream groups drop`.",
    ["group", "shard"],
)
MISSING = Counter(
    "ackstream_missing_entries_total",
    "Entries that left the stream without being trimmed by a worker. Rises: a person or program trims or deletes "
    "entries, the server evicts keys, or it restarted without its last entries. A group has lost the entries that it "
    "had not handled; the log line retention.missing names the groups.",
)
