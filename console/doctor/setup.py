"""The installation that ``doctor`` checks: the settings of each process, and connections that were not used yet."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis

from ingest.auth.settings import SignatureSettings
from ingest.settings import IngestSettings
from runtime import run_file
from runtime.run_file import Addresses
from runtime.server_socket import make_local_url
from stream.keys import Shard
from stream.layout import read_layout
from stream.redis.client import client
from stream.redis.cluster import is_cluster
from stream.settings import InvalidSettings, StreamSettings
from worker.settings import WorkerSettings

ROLES = ("ingest", "worker", "console")
"""The processes whose settings and work are checked."""
REPLY_SECONDS = 3.0
MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings of the processes that run here. A process whose settings are not valid has None."""

    roles: Sequence[str]
    stream: StreamSettings
    ingest: IngestSettings | None = None
    worker: WorkerSettings | None = None
    console: StreamSettings | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    """Process → why its settings are not valid."""
    kinds: Sequence[type[StreamSettings]] = ()
    """The settings of all processes: a variable of none of them is unknown."""
    overridden: Mapping[str, str] = field(default_factory=dict)
    """Settings that the running `up` ignores, with advice."""
    running: Addresses | None = None
    """The addresses of the `up` that runs on the data folder."""
    url: str | None = None
    """The URL that the self-test is sent to, if a person gave one."""
    clock: Callable[[], float] = time.time
    mounts: Callable[[], str] = lambda: MOUNTS.read_text() if MOUNTS.exists() else ""
    """Returns the file systems of this machine, as Linux lists them; empty on another system."""

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.stream.data

    @property
    def loaded(self) -> Mapping[str, StreamSettings]:
        """The valid settings by process."""
        each = {"ingest": self.ingest, "worker": self.worker, "console": self.console}
        return {name: settings for name, settings in each.items() if settings is not None}

    @property
    def ingest_url(self) -> str | None:
        """The URL that webhooks are sent to; None if it is not known."""
        if self.url is not None:
            return self.url
        if self.running is not None:
            return self.running.ingest_url
        if self.ingest is None:
            return None
        return f"{make_local_url(self.ingest.hosts[0], self.ingest.port)}{self.ingest.routes[0]}"

    @property
    def signing(self) -> SignatureSettings | None:
        """The settings with the signature secrets; None if none of this machine's processes has them."""
        settings = self.ingest or self.console
        return settings if isinstance(settings, SignatureSettings) and settings.signature_secrets else None

    def open_server(self) -> Redis:
        """Open a client on Redis, without connecting. The caller closes it."""
        return client(self.stream.redis_url, reply_seconds=REPLY_SECONDS)

    async def find_shards(self, server: Redis) -> Sequence[Shard]:
        """Return a shard for each server to check: shard 0, or all shards of a cluster. Raises RedisError."""
        if not is_cluster(server):
            return [self.stream.shard]
        return (await read_layout(server, self.stream)).shards(self.stream.stream)


def load_setup(
    kinds: Mapping[str, type[StreamSettings]],
    roles: Sequence[str] = ROLES,
    *,
    data: Path | None = None,
    redis_url: str | None = None,
    url: str | None = None,
    overridden: Mapping[str, str] | None = None,
) -> Setup:
    """Read the settings that the processes would read here. ``kinds`` has the settings of each process.

    Raises InvalidSettings if the settings of the stream itself are not valid: then nothing can be checked.
    """
    stream = StreamSettings.load(data=data, redis_url=redis_url)
    loaded: dict[str, StreamSettings] = {}
    faults: dict[str, str] = {}
    for role in roles:
        try:
            loaded[role] = kinds[role].load(data=data, redis_url=redis_url)
        except InvalidSettings as exc:
            faults[role] = str(exc)
    ingest, worker = loaded.get("ingest"), loaded.get("worker")
    running = run_file.find_running(stream.data)
    if isinstance(ingest, IngestSettings) and running and "signatures" not in ingest.model_fields_set:
        ingest = ingest.model_copy(update={"signatures": "off"})  # the default of `up`
    return Setup(
        roles=roles,
        stream=stream,
        ingest=ingest if isinstance(ingest, IngestSettings) else None,
        worker=worker if isinstance(worker, WorkerSettings) else None,
        console=loaded.get("console"),
        faults=faults,
        kinds=tuple(kinds.values()),
        overridden=(overridden or {}) if running else {},
        running=running,
        url=url,
    )
