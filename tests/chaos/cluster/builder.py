"""Starts a cluster, and ends it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.up import valkey
from stream.keys import Shard
from stream.redis.client import client
from stream.settings import PREFIX, child_environment
from tests.chaos.checker.analysis import GROUPS
from tests.chaos.cluster import postgresql
from tests.chaos.cluster.cluster import STREAM, Cluster, Setup
from tests.chaos.cluster.log_pipe import LogPipe
from tests.chaos.cluster.mounts import mount_disk
from tests.chaos.cluster.supervised import Supervised
from tests.support.preload.shim import Shim, build_shim
from tests.support.processes import ACKSTREAM, Process, Server
from tests.support.servers import pgbouncer
from tests.support.servers.pgbouncer import PgBouncer
from tests.support.servers.proxy import run_proxy, through
from tests.support.waiting import until
from worker.store.migrate import migrate_at

CONTROL_SECONDS = 2.0
TRIMMED = {"retention": "1m", "retention_bytes": str(1024 * 1024)}
"""Limits so low that the worker trims the stream all the time, up to the ack floor."""


class Spawned(Server):
    """A process that counts as started as soon as it runs; faults may keep it from being ready."""

    async def _is_ready(self, process: Process) -> None:
        pass


class SpawnedIngest(Spawned):
    """`ackstream ingest` with its log in a pipe."""

    def __init__(self, command: tuple[str, ...], folder: Path, environment: Mapping[str, str], log: LogPipe) -> None:
        super().__init__(command, folder, environment)
        self._begin = lambda: log.start(command, folder, "ingest", environment)


@asynccontextmanager
async def run_cluster(setup: Setup) -> AsyncIterator[Cluster]:
    """Run a cluster during the block; it is ready when the block starts, and all processes end with it."""
    async with AsyncExitStack() as stack:
        ingest_data = setup.folder / "ingest"
        ingest_data.mkdir(parents=True)
        library = build_shim(setup.folder) if setup.has_shim else None
        database = (
            await stack.enter_async_context(postgresql.run_postgresql()) if setup.database == "postgresql" else None
        )
        database_url = database.url if database else f"sqlite:///{setup.folder / 'chaos.db'}"
        await migrate_at(database_url)
        redis, redis_url, port = _redis(setup, library)
        server = client(redis_url, reply_seconds=CONTROL_SECONDS)
        stack.push_async_callback(server.aclose)
        proxies = {side: await stack.enter_async_context(run_proxy(port)) for side in ("ingest", "workers")}
        if setup.may_mount:
            stack.enter_context(mount_disk(ingest_data))
        pooler = PgBouncer(setup.folder, database.folder) if database and pgbouncer.COMMAND else None
        shards = [Shard(STREAM, number) for number in range(setup.shards)]
        servers = redis_url, database_url, redis, server, proxies, database
        cluster = Cluster(*servers, ingest_data, setup.may_mount, shards, setup.processes > 1)
        if pooler is not None:
            cluster.pgbouncer = Supervised("pgbouncer", pooler, None)
        _add_ingests(cluster, setup, library, stack)
        _add_workers(cluster, setup, library, pooler)
        await stack.enter_async_context(_run_supervised(cluster))
        yield cluster


def _redis(setup: Setup, library: Path | None) -> tuple[Supervised, str, int]:
    folder = setup.folder / "valkey"
    folder.mkdir()
    server = valkey.Server(folder, valkey.find_free_port(), "chaos")
    server.write()
    changes = {"always": "", "everysec": "appendfsync everysec\n", "off": "appendonly no\n"}
    with (folder / "valkey.conf").open("a") as config:
        config.write(changes[setup.appendfsync])  # the later line counts
    shim = _make_shim(setup, library, "redis")
    command = valkey.find_binary(), str(folder / "valkey.conf")
    return (
        Supervised("redis", Spawned(command, setup.folder, _environment(shim), name="redis"), shim),
        server.url,
        server.port,
    )


def _common(setup: Setup) -> dict[str, str]:
    """Return the settings that ingest and workers share."""
    return {
        "stream": STREAM,
        "log_format": "json",
        "shards": str(setup.shards),
        "processes": str(setup.processes),
        **({"order": "message"} if setup.handler else {}),
    }


def _add_ingests(cluster: Cluster, setup: Setup, library: Path | None, stack: AsyncExitStack) -> None:
    unsigned = {"signatures": "off", "ack": setup.ack, "data": str(cluster.ingest_data)}
    for number in range(setup.ingests):
        port, admin_port = valkey.find_free_port(), valkey.find_free_port()
        url = through(cluster.proxies["ingest"], cluster.redis_url)
        settings = {"redis_url": url, "port": str(port), "admin_port": str(admin_port), **unsigned}
        shim = _make_shim(setup, library, f"ingest-{number}")
        log = LogPipe(setup.folder / f"ingest-{number}.pipe")
        stack.callback(log.close)
        cluster.logs.append(log)
        server = SpawnedIngest(
            (*ACKSTREAM, "ingest"), setup.folder, _environment(shim, **_common(setup), **settings), log
        )
        refuses = setup.ack == "fsync"  # to start while Redis cannot be asked
        cluster.ingests.append(Supervised(f"ingest-{number}", server, shim, refuses=refuses))
        cluster.ingest_urls.append(f"http://127.0.0.1:{port}/webhooks/message-status")
        cluster.ingest_admin_urls.append(f"http://127.0.0.1:{admin_port}")


def _add_workers(cluster: Cluster, setup: Setup, library: Path | None, pooler: PgBouncer | None) -> None:
    for number in range(setup.workers):
        admin_port = valkey.find_free_port()
        url = through(cluster.proxies["workers"], cluster.redis_url)
        database_url = pooler.url() if pooler and number % 2 else cluster.database_url
        settings = {"redis_url": url, "database_url": database_url, "admin_port": str(admin_port), **TRIMMED}
        shim = _make_shim(setup, library, f"worker-{number}")
        handlers = ",".join(filter(None, (*GROUPS, setup.handler)))
        environment = _environment(shim, **_common(setup), **settings, handlers=handlers)
        cluster.workers.append(
            Supervised(f"worker-{number}", Spawned(setup.worker, setup.folder, environment, name="worker"), shim)
        )
        cluster.worker_admin_urls.append(f"http://127.0.0.1:{admin_port}")


def _make_shim(setup: Setup, library: Path | None, name: str) -> Shim | None:
    return Shim(library, setup.folder / f"{name}.orders") if library else None


def _environment(shim: Shim | None, **settings: str) -> Mapping[str, str]:
    """Return the environment of a process: these settings and no others."""
    mine = child_environment(**settings)
    foreign = {name for name in mine if name.startswith(PREFIX)} - {f"{PREFIX}{name.upper()}" for name in settings}
    common = {name: value for name, value in mine.items() if name not in foreign}
    return {**common, **(shim.environment if shim else {})}


@asynccontextmanager
async def _run_supervised(cluster: Cluster) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        keeping = [tasks.create_task(cluster.redis.run())]
        try:
            await until(lambda: _answers(cluster.server))
            keeping += [
                tasks.create_task(process.run()) for process in cluster.supervised if process is not cluster.redis
            ]
            assert await cluster.is_ready(), "a process did not start; see its log"
            yield
        finally:
            for task in keeping:
                task.cancel()
            for process in cluster.supervised:
                process.kill()


async def _answers(server: Redis) -> bool:
    try:
        await server.ping()
    except (RedisError, OSError):
        return False
    return True
