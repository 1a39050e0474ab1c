"""Computes what a load needs from the costs of one status. Every formula of ``ackstream plan`` is here."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, exp

from console.plan.costs import Costs
from console.plan.workload import Workload
from stream.keys import MOST_SHARDS

BUSY = 0.7
"""The share of a core that a process may use at the peak; the rest catches up after a stop."""
REDIS_BUSY = 0.6
"""The same for the main thread of Redis: a replay, a rewrite of its file or a fail-over must still fit."""
SHARD_BYTES = 25 * 1024**3
"""The data of one Redis server: more takes minutes to load, to copy to a replica and to rewrite."""
MAXMEMORY_FACTOR = 2
"""By default a stream may fill half of maxmemory."""
FILE_FACTOR = 3
"""The append-only file doubles before Redis rewrites it, and the new one is written next to it."""
DEDUP_SECONDS, DEDUP_ENTRIES = 3600, 100_000
BASE_BYTES = 2 * 1024**2
CHECKPOINT_SECONDS = 300
CHECKPOINT_LOG_BYTES = 1024**3
"""PostgreSQL's defaults: a checkpoint after this time or this much log."""
PAGE_BYTES = 8192
DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class PartLimit:
    """One part of the planned installation: the statuses a second at which it is full, and the remedy."""

    part: str
    full_at: float
    add: str


@dataclass(frozen=True, slots=True)
class Capacity:
    """The needs of a load. Cores are CPU seconds a second at the peak rate, sizes are for the average rate."""

    workload: Workload
    costs: Costs

    @property
    def entries(self) -> float:
        """The entries on the stream."""
        return self.workload.rate * self.workload.retention_seconds

    @property
    def redis_bytes(self) -> float:
        """The data in Redis: the entries, and the dedup marks of every group but ``store``."""
        return BASE_BYTES + self.entry_bytes * self.entries + self._mark_bytes(self.shards)

    def _mark_bytes(self, shards: int) -> float:
        """Return the bytes of the dedup marks: those of DEDUP_SECONDS, and on each shard at most DEDUP_ENTRIES."""
        return min(self.workload.rate * self._mark_bytes_per_rate, shards * self._most_mark_bytes)

    @property
    def _mark_bytes_per_rate(self) -> float:
        return (self.workload.groups - 1) * self.costs.mark * DEDUP_SECONDS

    @property
    def _most_mark_bytes(self) -> float:
        return (self.workload.groups - 1) * self.costs.mark * DEDUP_ENTRIES

    @property
    def entry_bytes(self) -> float:
        """The bytes of an entry in Redis."""
        return self.costs.entry.at(self.workload.size)

    @property
    def redis_disk_bytes(self) -> float:
        """The greatest size of Redis's append-only files."""
        return FILE_FACTOR * self.costs.entry_file.at(self.workload.size) * self.entries

    @property
    def redis_us(self) -> float:
        """The CPU time of Redis for a status: append it, read and ack it in every group."""
        others = (self.workload.groups - 1) * self._worker_us("one_event_redis_us")
        return self._ingest_us("append_us") + self._worker_us("store_postgresql_redis_us") + others

    @property
    def needed_shards(self) -> int:
        """The shards that the CPU of Redis and its memory need."""
        least = BASE_BYTES + self.entry_bytes * self.entries
        by_age = (least + self.workload.rate * self._mark_bytes_per_rate) / SHARD_BYTES
        by_number = least / (SHARD_BYTES - self._most_mark_bytes)
        return max(self.cpu_shards, ceil(min(by_age, by_number)))

    @property
    def cpu_shards(self) -> int:
        """The shards that the CPU of Redis needs."""
        return max(1, ceil(self._cores(self.redis_us) / REDIS_BUSY))

    def find_retention(self, shards: int) -> float:
        """Return the seconds of retention whose entries fit into this number of shards."""
        free = shards * SHARD_BYTES - BASE_BYTES - self._mark_bytes(shards)
        return free / (self.entry_bytes * self.workload.rate)

    @property
    def shards(self) -> int:
        """The shards of the user, else those that are needed."""
        return self.workload.shards or self.needed_shards

    @property
    def ingest_us(self) -> float:
        """The CPU time of ingest for a signed webhook."""
        return self._ingest_us("required_us")

    @property
    def ingest_processes(self) -> int:
        """The processes of ingest."""
        return max(1, ceil(self._cores(self.ingest_us) / BUSY))

    @property
    def worker_us(self) -> float:
        """The CPU time of workers for a status: ``store``, and a function of single events in every other group."""
        others = (self.workload.groups - 1) * self._worker_us("one_event_us")
        return self._worker_us("store_postgresql_us") + others

    @property
    def worker_busy_us(self) -> float:
        """The time in which a worker cannot take another status: its CPU time, and PostgreSQL's, which it awaits."""
        return self.worker_us + self.database_us

    @property
    def worker_processes(self) -> int:
        """The processes of workers."""
        return max(1, ceil(self._cores(self.worker_busy_us) / BUSY))

    @property
    def database_us(self) -> float:
        """The CPU time of PostgreSQL for a status."""
        return self._worker_us("postgresql_us")

    @property
    def database_bytes_per_day(self) -> float:
        """The growth of the tables and their indexes in a day."""
        message = self.costs.message / self.workload.events_per_message
        return (self.costs.event.at(self.workload.size) + message) * self.workload.rate * DAY_SECONDS

    @property
    def database_bytes(self) -> float | None:
        """The size of the tables when their oldest rows are removed; None if they grow without end."""
        seconds = self.workload.tables_seconds
        return None if seconds is None else self.database_bytes_per_day * seconds / DAY_SECONDS

    @property
    def index_bytes_per_day(self) -> float:
        """The growth of the indexes in a day. Their pages change in random order."""
        message = self.costs.message_index / self.workload.events_per_message
        return (self.costs.event_index + message) * self.workload.rate * DAY_SECONDS

    @property
    def log_bytes_per_second(self) -> float:
        """The write-ahead log of PostgreSQL at the average rate, without copies of pages."""
        return self.costs.log.at(self.workload.size) * self.workload.rate

    @property
    def database_iops(self) -> float:
        """The writes a second of PostgreSQL at the peak: commits, and each changed page once a checkpoint."""
        return self._commits_per_second() + self._pages_per_second()

    def _pages_per_second(self) -> float:
        """Return the pages that a checkpoint writes, each second. Events that change the same page share its write."""
        rate = self.workload.peak_rate
        between = min(CHECKPOINT_SECONDS, CHECKPOINT_LOG_BYTES / (self.costs.log.at(self.workload.size) * rate))
        changes = rate * self.costs.pages * between
        if self.workload.tables_seconds is None:
            return changes / between
        pages = max(self.index_bytes_per_day * self.workload.tables_seconds / DAY_SECONDS / PAGE_BYTES, 1)
        return pages * (1 - exp(-changes / pages)) / between

    def _commits_per_second(self) -> float:
        """Return the batches a second: a worker takes the statuses that arrived while it stored the last batch."""
        processes = self.worker_processes
        rate = self.workload.peak_rate / processes
        idle = max(1 - rate * self.worker_busy_us / 1e6, 0)
        return processes * min(rate, idle / (self.costs.commit_ms / 1000))

    def limits(self) -> Iterator[PartLimit]:
        """Yield when each part of the planned installation is full."""
        second, peak = 1e6, self.workload.peak_rate
        can_grow = self.shards < MOST_SHARDS
        yield PartLimit(
            "ingest",
            self.ingest_processes * second / self.ingest_us,
            "another ingest process: --processes, or another machine",
        )
        yield PartLimit(
            "Redis CPU",
            self.shards * second / self.redis_us,
            "another shard: `ackstream shards set`" if can_grow else "another stream for some of your applications",
        )
        yield PartLimit(
            "Redis memory",
            peak / self.workload.rate * self._find_full_rate(),
            "another shard (`ackstream shards set`), or a shorter retention with an archive"
            if can_grow
            else "an archive, and a shorter retention",
        )
        yield PartLimit(
            "workers",
            self.worker_processes * second / self.worker_busy_us,
            "another worker process: --processes, or another machine",
        )
        yield PartLimit(
            "database disk",
            peak * self.workload.iops / self.database_iops,
            "a disk with more IOPS; above that, a handler of lists that writes elsewhere instead of `store`",
        )

    def _find_full_rate(self) -> float:
        """Return the average rate at which the shards are full of entries and dedup marks."""
        free = self.shards * SHARD_BYTES - BASE_BYTES
        bytes_per_rate = self.entry_bytes * self.workload.retention_seconds
        return max(
            free / (bytes_per_rate + self._mark_bytes_per_rate),
            (free - self.shards * self._most_mark_bytes) / bytes_per_rate,
        )

    def first_limit(self) -> PartLimit:
        """Return the part that is full first when the rate rises."""
        return min(self.limits(), key=lambda limit: limit.full_at)

    def _ingest_us(self, name: str) -> float:
        return self.costs.ingest[name].at(self.workload.size) * self.workload.factor

    def _worker_us(self, name: str) -> float:
        return self.costs.workers[name].at(self.workload.size) * self.workload.factor

    def _cores(self, cost_us: float) -> float:
        return self.workload.peak_rate * cost_us / 1e6

    def as_json(self) -> dict[str, object]:
        """Return the plan as ``--json`` prints it."""
        first = self.first_limit()
        return {
            "redis_bytes": ceil(self.redis_bytes),
            "shards": self.shards,
            "ingest_processes": self.ingest_processes,
            "worker_processes": self.worker_processes,
            "database_bytes_per_day": ceil(self.database_bytes_per_day),
            "database_bytes": None if self.database_bytes is None else ceil(self.database_bytes),
            "database_index_bytes_per_day": round(self.index_bytes_per_day),
            "database_log_bytes_per_day": round(self.log_bytes_per_second * DAY_SECONDS),
            "database_iops": round(self.database_iops, 1),
            "redis_maxmemory_bytes": ceil(self.redis_bytes * MAXMEMORY_FACTOR),
            "redis_disk_bytes": ceil(self.redis_disk_bytes),
            "ingest_cores": round(self._cores(self.ingest_us), 4),
            "redis_cores": round(self._cores(self.redis_us), 4),
            "worker_cores": round(self._cores(self.worker_us), 4),
            "database_cores": round(self._cores(self.database_us), 4),
            "limits": [
                {"part": limit.part, "full_at": round(limit.full_at), "add": limit.add} for limit in self.limits()
            ],
            "first_limit": first.part,
        }
