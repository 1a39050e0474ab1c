"""All the processes of a sitting, as the faults see them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from stream.keys import Shard
from tests.chaos.log_pipe import LogPipe
from tests.chaos.postgresql import Postgresql
from tests.chaos.supervised import Supervised
from tests.support.processes import ACKSTREAM, answer
from tests.support.servers.proxy import Proxy
from tests.support.waiting import until

STREAM = "chaos:status"
READY_SECONDS = 60.0
ORDER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What a site is made of."""

    folder: Path
    database: Literal["postgresql", "sqlite"] = "postgresql"
    ack: Literal["stream", "fsync"] = "stream"
    appendfsync: Literal["always", "everysec", "off"] = "always"
    """``off`` is no append-only file at all."""
    ingests: int = 2
    workers: int = 2
    worker: tuple[str, ...] = (*ACKSTREAM, "worker")
    """The command of a worker."""
    may_mount: bool = False
    """Whether the spool may have a small disk of its own (tests/chaos/mounts.py)."""


@dataclass(slots=True)
class Cluster:
    """Redis, ingest, workers, the database, and a proxy before Redis for each side."""

    redis_url: str
    database_url: str
    redis: Supervised
    control: Redis
    """The rig's own client, past the proxies."""
    proxies: dict[str, Proxy]
    """``ingest`` and ``workers``: what is between them and Redis."""
    postgresql: Postgresql | None
    ingest_data: Path
    """The data folder that all ingest processes share."""
    has_disk: bool
    """Whether that folder is a small disk of its own."""
    pgbouncer: Supervised | None = None
    """Between every second worker and the database, where it is installed."""
    ingests: list[Supervised] = field(default_factory=list)
    workers: list[Supervised] = field(default_factory=list)
    logs: list[LogPipe] = field(default_factory=list)
    """What reads the log of each ingest."""
    ingest_urls: list[str] = field(default_factory=list)
    ingest_admin_urls: list[str] = field(default_factory=list)
    worker_admin_urls: list[str] = field(default_factory=list)

    @property
    def shard(self) -> Shard:
        return Shard(STREAM)

    @property
    def supervised(self) -> Sequence[Supervised]:
        return (self.redis, *self.ingests, *self.workers, *([self.pgbouncer] if self.pgbouncer else []))

    def crashes(self) -> list[str]:
        """Return the ends that no fault has caused, and forget them."""
        found = [crash for one in self.supervised for crash in one.crashes]
        for one in self.supervised:
            one.crashes.clear()
        return found

    async def order(self, *command: Any) -> None:
        """Give Redis a command, again and again while it is away; a refusal ends it too."""
        given_to: Any = self.control.execute_command

        async def given() -> bool:
            try:
                await given_to(*command)
            except BusyLoadingError:
                return False
            except ResponseError:
                return True
            except (RedisError, OSError):
                return False
            return True

        await until(given, seconds=ORDER_SECONDS)

    async def is_ready(self) -> bool:
        """Return True when each ingest and worker says that it is ready, False if that takes READY_SECONDS."""
        urls = (*self.ingest_admin_urls, *self.worker_admin_urls)

        async def all_say_so() -> bool:
            return all([await answer(f"{url}/ready") == 200 for url in urls])

        try:
            await until(all_say_so, seconds=READY_SECONDS)
        except AssertionError:
            return False
        return True
