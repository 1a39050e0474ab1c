"""All processes of a run, as the faults see them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from stream.keys import Shard
from tests.chaos.cluster.log_pipe import LogPipe
from tests.chaos.cluster.postgresql import Postgresql
from tests.chaos.cluster.supervised import Supervised
from tests.support.processes import ACKSTREAM, answer
from tests.support.servers.proxy import Proxy
from tests.support.waiting import until

STREAM = "chaos:status"
READY_SECONDS = 60.0
ORDER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings of a cluster."""

    folder: Path
    database: Literal["postgresql", "sqlite"] = "postgresql"
    ack: Literal["stream", "fsync"] = "stream"
    appendfsync: Literal["always", "everysec", "off"] = "always"
    """`off` means no append-only file."""
    ingests: int = 2
    workers: int = 2
    shards: int = 1
    processes: int = 1
    """Of each ingest and worker."""
    handler: str = ""
    """A further handler, in order mode; without it order mode is off."""
    worker: tuple[str, ...] = (*ACKSTREAM, "worker")
    """The command of a worker."""
    has_shim: bool = True
    """Whether the processes run under the shim, which faults of disks and clocks need. Without it they are forked."""
    may_mount: bool = False
    """Whether the spool may have a small disk of its own (tests/chaos/cluster/mounts.py)."""


@dataclass(slots=True)
class Cluster:
    """Redis, ingest, workers, the database, and a proxy before Redis for each side."""

    redis_url: str
    database_url: str
    redis: Supervised
    server: Redis
    """A client that bypasses the proxies."""
    proxies: dict[str, Proxy]
    """The proxies before Redis, of `ingest` and of `workers`."""
    postgresql: Postgresql | None
    ingest_data: Path
    """The data folder that all ingest processes share."""
    has_disk: bool
    """Whether that folder is a small disk of its own."""
    shards: Sequence[Shard]
    has_children: bool
    """Whether each ingest and worker is a supervisor with several processes."""
    pgbouncer: Supervised | None = None
    """Between every second worker and the database, where it is installed."""
    ingests: list[Supervised] = field(default_factory=list)
    workers: list[Supervised] = field(default_factory=list)
    logs: list[LogPipe] = field(default_factory=list)
    """The readers of the log of each ingest process."""
    ingest_urls: list[str] = field(default_factory=list)
    ingest_admin_urls: list[str] = field(default_factory=list)
    worker_admin_urls: list[str] = field(default_factory=list)

    @property
    def supervised(self) -> Sequence[Supervised]:
        return (self.redis, *self.ingests, *self.workers, *([self.pgbouncer] if self.pgbouncer else []))

    def crashes(self) -> list[str]:
        """Return the ends that no fault has caused, and clear the list."""
        crashes = [crash for process in self.supervised for crash in process.crashes]
        for process in self.supervised:
            process.crashes.clear()
        return crashes

    async def run_command(self, *words: Any) -> None:
        """Run a command on Redis, again while Redis is away; an error reply ends it too."""
        execute: Any = self.server.execute_command

        async def is_answered() -> bool:
            try:
                await execute(*words)
            except BusyLoadingError:
                return False
            except ResponseError:
                return True
            except (RedisError, OSError):
                return False
            return True

        await until(is_answered, seconds=ORDER_SECONDS)

    async def is_ready(self) -> bool:
        """Wait until each ingest process and worker is ready; return False after READY_SECONDS."""
        urls = (*self.ingest_admin_urls, *self.worker_admin_urls)

        async def are_all_ready() -> bool:
            return all([await answer(f"{url}/ready") == 200 for url in urls])

        try:
            await until(are_all_ready, seconds=READY_SECONDS)
        except AssertionError:
            return False
        return True
