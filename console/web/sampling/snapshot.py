"""One moment of Ackstream, as the sampler saw it: Redis, the groups, the scraped processes and the database. No I/O.

Times are Unix seconds of the console's clock. An unknown number is None, never 0. Numbers of a part that is away are
those of its last answer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from console.queries.statuses.figures import OpenMessages
from console.web.metrics.distribution import Distribution
from stream.redis.cluster import AwayShard

REDIS, INGEST, WORKER = "redis", "ingest", "worker"
"""The parts that numbers are read from."""
BACKLOG = "backlog"
"""The reason of a pause that only workers know: retries and dead letters are at their limit in bytes."""
STARTED_SECONDS = 10.0
"""A part that is away since this time after the sampler's start has never answered."""


@dataclass(frozen=True, slots=True)
class Away:
    """Why a part does not answer, and since when."""

    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class RedisSample:
    """Redis and the streams of all shards. Without any answer so far, ``read_at`` and all numbers are None."""

    away: Away | None = None
    away_shards: tuple[AwayShard, ...] = ()
    """The shards of a cluster that do not answer, while others do. The numbers are those of the others."""
    away_shards_since: float | None = None
    read_at: float | None = None
    """When the numbers were read."""
    server_id: str | None = None
    stored: int | None = None
    """Entries ever appended, the exact count of stored webhooks. It starts at 0 when the stream is deleted."""
    entries: int | None = None
    bytes: int | None = None
    """Estimate of the stream's size in memory."""
    oldest_at: float | None = None
    """When the oldest entry was appended, by the server's clock; None if the stream is empty."""
    newest_at: float | None = None
    """When the newest entry was appended; None before the first."""
    memory_node: str | None = None
    """The address of the fullest node of a cluster. The memory is that of this node."""
    memory_used: int | None = None
    """Without the part that Redis does not count for its limit."""
    memory_max: int | None = None
    """None without a limit, or if the server does not show it."""
    durable: bool | None = None
    """Whether each append is on the disk before it is confirmed; None if the server does not show its settings."""
    shortcomings: tuple[str, ...] = ()
    """The settings that make it not durable."""
    invalid: int | None = None
    """Recorded invalid payloads that no signature verifies."""
    quarantined: int | None = None
    running_replays: int | None = None

    @property
    def memory_share(self) -> float | None:
        """The used memory as a share of the limit; None without a limit."""
        return self.memory_used / self.memory_max if self.memory_used is not None and self.memory_max else None


@dataclass(frozen=True, slots=True)
class PauseSample:
    """Why a group is paused, and since when.

    The reason is BACKLOG, or one in Redis: a worker.dispatch.pause.PauseReason, or one of a later version.
    """

    reason: str
    since: float | None


@dataclass(frozen=True, slots=True)
class HandlerError:
    """A failed attempt: the class and place of its error. Never the error's message, which may quote private data."""

    at: float
    entry: str
    """The id of the entry, ``shard/ms-seq``."""
    error: str
    attempt: int
    is_dead: bool
    """Whether the entry is a dead letter; else its next attempt is at ``due``."""
    due: float | None = None


@dataclass(frozen=True, slots=True)
class GroupSample:
    """The work of one group over all shards."""

    name: str
    registered: bool
    """False for a group of another program, or the position of a replay."""
    unread: int | None
    """None while the server does not report the lag: after the group was moved, or entries were deleted."""
    pending: int
    retries: int
    replays: int
    dead: int
    oldest_seconds: float | None
    """Age of the oldest unread or pending entry; None without one."""
    paused: PauseSample | None
    settled: int | None
    """Entries that the group has read and acknowledged, since the group or the stream was created."""
    alive: int | None
    """Consumers whose heartbeat advances; None until the sampler has watched for long enough."""
    failures: tuple[HandlerError, ...] = ()
    """The newest failures, the newest first; read every few seconds."""

    @property
    def outstanding(self) -> int | None:
        """All work that is neither settled nor dead-lettered; None while the server does not report the lag."""
        return None if self.unread is None else self.unread + self.pending + self.retries + self.replays


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """A process whose metrics the console reads. Before its first answer, ``scraped_at`` is None and numbers are 0."""

    address: str
    """``host:port``, or the name that has no address."""
    since: float
    """Since when it answers, or does not answer."""
    away: Away | None = None
    scraped_at: float | None = None

    @property
    def is_up(self) -> bool:
        """Whether the last scrape succeeded."""
        return self.away is None


@dataclass(frozen=True, slots=True)
class IngestSample(ProcessSample):
    """The numbers of one ingest process, since its start."""

    read_at: float | None = None
    """When another program than the console last read its metrics; None if none did since its start."""
    answers: Mapping[str, float] = field(default_factory=dict)
    """Webhooks by answer: ``200``, ``503`` …, and ``check`` for empty requests."""
    answer_seconds: Distribution = field(default_factory=Distribution)
    redis_fault: str | None = None
    """Why it sends entries to the spool, None if it does not."""
    redis_durable: bool | None = None
    """Whether Redis, as this process has checked it, is as durable as it can be."""
    memory_share: float | None = None
    """The memory that Redis uses as a share of its limit; 0 without a limit."""
    spool_entries: int = 0
    spool_bytes: int = 0
    spool_limit: int | None = None
    """At this size webhooks are answered 503."""
    spool_oldest_seconds: float = 0.0
    spool_foreign: int = 0
    """Entries in spool folders of another stream or server."""
    connections: int = 0
    verified: Mapping[str, float] = field(default_factory=dict)
    """Webhooks with a valid signature by account."""
    refused: Mapping[str, float] = field(default_factory=dict)
    """Webhooks without a valid signature: ``unsigned``, or ``wrong`` with the reason."""


@dataclass(frozen=True, slots=True)
class WorkerSample(ProcessSample):
    """The numbers of one worker process, since its start, by group."""

    handled: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, float] = field(default_factory=dict)
    dead: Mapping[str, float] = field(default_factory=dict)
    handle_seconds: Mapping[str, Distribution] = field(default_factory=dict)
    trim_failures: float = 0.0
    missing: float = 0.0
    retention_blocked: Mapping[str, int] = field(default_factory=dict)
    """Entries that a group keeps on the stream beyond the retention; only of the worker that trims."""
    waiting: frozenset[str] = frozenset()
    """The groups whose target is away."""
    full: frozenset[str] = frozenset()
    """The groups whose retries and dead letters are at their limit, so that they handle no live entries."""


def add_backlog_pauses(groups: Mapping[str, GroupSample], workers: Iterable[WorkerSample]) -> Mapping[str, GroupSample]:
    """Return the groups; those that are at their limit by the word of a running worker count as paused."""
    full = frozenset[str]().union(*(worker.full for worker in workers if worker.is_up))
    return {
        name: replace(group, paused=PauseSample(BACKLOG, None)) if name in full and not group.paused else group
        for name, group in groups.items()
    }


@dataclass(frozen=True, slots=True)
class Totals:
    """Increases of counters since the console's start, over all processes, also those that have ended since.

    Raw counters of processes start at 0 again after a restart; these never fall, so that the difference of two
    snapshots counts the events in between.
    """

    at: float = 0.0
    """When the last scrape of this round was complete; 0 before the first."""
    counts: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """By kind and label: (``answers``, ``200``), (``handled``, group), (``verified``, account) …"""
    distributions: Mapping[tuple[str, str], Distribution] = field(default_factory=dict)
    """(``answer``, ````) and (``handle``, group)."""
    spans: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The time in which the processes of a part, INGEST or WORKER, have counted the last increases."""
    redis_at: float = 0.0
    """When Redis was last read; 0 before."""
    redis_counts: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """(``stored``, ````) and (``settled``, group)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment."""

    taken_at: float
    """When the sampler completed it."""
    started_at: float
    """When the sampler started."""
    redis: RedisSample
    groups: Mapping[str, GroupSample]
    ingest: tuple[IngestSample, ...]
    workers: tuple[WorkerSample, ...]
    silent: tuple[ProcessSample, ...]
    """Addresses that have never answered, so that it is unknown what runs there."""
    is_scraping: bool
    """Whether the console has addresses to scrape; if not, numbers of processes are unknown."""
    database: Away | None
    totals: Totals
    open_messages: OpenMessages | None = None
    """Messages without a final status by age, read every minute; None if the database does not answer in time."""

    @property
    def waiting(self) -> frozenset[str]:
        """The groups whose target is away, by the word of a running worker."""
        return frozenset[str]().union(*(process.waiting for process in self.workers if process.is_up))

    @property
    def misses_database(self) -> bool:
        """Whether the database is away although it is used: by the group ``store``, or because it answered before."""
        is_new = self.database is not None and self.database.since > self.started_at + STARTED_SECONDS
        return self.database is not None and (is_new or "store" in self.groups)

    @property
    def is_durable(self) -> bool | None:
        """Whether appends are on the disk before they are confirmed, as the console or else ingest has checked it."""
        if self.redis.durable is not None:
            return self.redis.durable
        checked = [process.redis_durable for process in self.ingest if process.redis_durable is not None]
        return all(checked) if checked else None

    @property
    def memory_share(self) -> float | None:
        """The memory that Redis uses as a share of its limit; None without a limit, or if it is unknown."""
        shares = [process.memory_share for process in self.ingest if process.memory_share]
        return self.redis.memory_share or max(shares, default=None)

    @property
    def spooled(self) -> int | None:
        """Entries that wait in the spools of all ingest processes, as last scraped; None if none was ever scraped."""
        return sum(process.spool_entries for process in self.ingest) if self.ingest else None
