"""The console's own metrics. Each help text says what to do when the metric rises.

They are in a registry of their own, because the console imports code of ingest and the worker, whose metrics have no
meaning here.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from runtime.metrics import LOST, PROCESS, SUPPRESSED

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
for metric in (LOST, PROCESS, SUPPRESSED):
    REGISTRY.register(metric)

OUTSTANDING = Gauge(
    "ackstream_outstanding",
    "Entries that the group has neither settled nor dead-lettered: unread, pending, retries and replays. Rises: the "
    "group is paused, has no worker, or its handler is slower than the webhooks arrive. Absent: Redis is away, or does "
    "not report the lag of the group.",
    ["group"],
    registry=REGISTRY,
)
OLDEST = Gauge(
    "ackstream_oldest_seconds",
    "Age of the oldest unread or pending entry of the group; 0 without one. Rises: as ackstream_outstanding. Absent: "
    "Redis is away.",
    ["group"],
    registry=REGISTRY,
)
DEAD_LETTERS = Gauge(
    "ackstream_dead_letters",
    "Dead letters that the group has now. Rises: see `ackstream dead-letters list`. Absent: Redis is away.",
    ["group"],
    registry=REGISTRY,
)
CONSUMERS = Gauge(
    "ackstream_live_consumers",
    "Consumers of the group whose heartbeat advances, one for each worker. 0: start a worker with this handler. "
    "Absent: Redis is away, or the console has just started.",
    ["group"],
    registry=REGISTRY,
)
OPEN_MESSAGES = Gauge(
    "ackstream_open_messages",
    "Messages without a final status, by the time since their first one: under_1h, 1h_to_24h, over_24h. Rises: the "
    "network gives no receipts, or statuses were lost; see the open messages on the page Statuses of the console. "
    "Absent: the database does not answer, or has no tables.",
    ["age"],
    registry=REGISTRY,
)
CONNECTIONS = Gauge(
    "ackstream_console_connections",
    "Open connections on the console's port. Near 1,000: a client keeps many open; those without a sign-in are closed "
    "first.",
    registry=REGISTRY,
)
CONNECTIONS_CLOSED = Counter(
    "ackstream_console_connections_closed_total",
    "Connections that the console closed, by reason (why). head: the request head was late or too large; answer: the "
    "client does not read its answer; room: closed for a new connection. Rises: slow or hostile clients.",
    ["why"],
    registry=REGISTRY,
)
