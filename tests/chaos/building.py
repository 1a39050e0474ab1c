"""Builds a site, and takes it down again."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.up import valkey
from stream.redis.client import client
from stream.settings import PREFIX, child_environment
from tests.chaos import postgresql, shim
from tests.chaos.log_pipe import LogPipe
from tests.chaos.mounts import mounted
from tests.chaos.shim import Orders
from tests.chaos.site import STREAM, Cluster, Setup
from tests.chaos.supervised import Supervised
from tests.chaos.verdict import GROUPS
from tests.support.processes import ACKSTREAM, Process, Server
from tests.support.servers import pgbouncer
from tests.support.servers.pgbouncer import PgBouncer
from tests.support.servers.proxy import proxying, through
from tests.support.waiting import until
from worker.store.migrate import migrate_at

CONTROL_SECONDS = 2.0
TRIMMED = {"retention": "1m", "retention_bytes": str(1024 * 1024)}
"""So little is kept that the stream is trimmed all the time, as close to the groups as it ever may be."""


class Spawned(Server):
    """A process that counts as started as soon as it runs, whatever the faults then let it do."""

    async def _is_ready(self, process: Process) -> None:
        pass


class Ingest(Spawned):
    """`ackstream ingest`, whose log the rig reads through a pipe."""

    def __init__(self, command: tuple[str, ...], folder: Path, environment: Mapping[str, str], log: LogPipe) -> None:
        super().__init__(command, folder, environment)
        self._begin = lambda: log.start(command, folder, "ingest", environment)


class Worker(Spawned):
    """`ackstream worker`."""


class Valkey(Spawned):
    """The server."""


@asynccontextmanager
async def built(setup: Setup) -> AsyncIterator[Cluster]:
    """Run a site for the length of the block; it is ready at its beginning, and ended whole at its end."""
    async with AsyncExitStack() as stack:
        ingest_data = setup.folder / "ingest"
        ingest_data.mkdir(parents=True)
        library = shim.build(setup.folder)
        database = await stack.enter_async_context(postgresql.running()) if setup.database == "postgresql" else None
        database_url = database.url if database else f"sqlite:///{setup.folder / 'chaos.db'}"
        await migrate_at(database_url)
        redis, redis_url, port = _redis(setup, library)
        control = client(redis_url, reply_seconds=CONTROL_SECONDS)
        stack.push_async_callback(control.aclose)
        proxies = {side: await stack.enter_async_context(proxying(port)) for side in ("ingest", "workers")}
        if setup.may_mount:
            stack.enter_context(mounted(ingest_data))
        pooler = PgBouncer(setup.folder, database.folder) if database and pgbouncer.COMMAND else None
        site = Cluster(redis_url, database_url, redis, control, proxies, database, ingest_data, setup.may_mount)
        if pooler is not None:
            site.pgbouncer = Supervised("pgbouncer", pooler, None)
        _add_ingests(site, setup, library, stack)
        _add_workers(site, setup, library, pooler)
        await stack.enter_async_context(_supervised(site))
        yield site


def _redis(setup: Setup, library: Path | None) -> tuple[Supervised, str, int]:
    folder = setup.folder / "valkey"
    folder.mkdir()
    server = valkey.Server(folder, valkey.find_free_port(), "chaos")
    server.write()
    changes = {"always": "", "everysec": "appendfsync everysec\n", "off": "appendonly no\n"}
    with (folder / "valkey.conf").open("a") as config:
        config.write(changes[setup.appendfsync])  # the later line counts
    orders = _orders(setup, library, "redis")
    command = valkey.find_binary(), str(folder / "valkey.conf")
    return Supervised("redis", Valkey(command, setup.folder, _environment(orders)), orders), server.url, server.port


COMMON = {"stream": STREAM, "log_format": "json"}


def _add_ingests(site: Cluster, setup: Setup, library: Path | None, stack: AsyncExitStack) -> None:
    unsigned = {"signatures": "off", "ack": setup.ack, "data": str(site.ingest_data)}
    for number in range(setup.ingests):
        port, admin_port = valkey.find_free_port(), valkey.find_free_port()
        url = through(site.proxies["ingest"], site.redis_url)
        settings = {"redis_url": url, "port": str(port), "admin_port": str(admin_port), **unsigned}
        orders = _orders(setup, library, f"ingest-{number}")
        log = LogPipe(setup.folder / f"ingest-{number}.pipe")
        stack.callback(log.close)
        site.logs.append(log)
        server = Ingest((*ACKSTREAM, "ingest"), setup.folder, _environment(orders, **COMMON, **settings), log)
        refuses = setup.ack == "fsync"  # to start while Redis cannot be asked
        site.ingests.append(Supervised(f"ingest-{number}", server, orders, refuses=refuses))
        site.ingest_urls.append(f"http://127.0.0.1:{port}/webhooks/message-status")
        site.ingest_admin_urls.append(f"http://127.0.0.1:{admin_port}")


def _add_workers(site: Cluster, setup: Setup, library: Path | None, pooler: PgBouncer | None) -> None:
    for number in range(setup.workers):
        admin_port = valkey.find_free_port()
        url = through(site.proxies["workers"], site.redis_url)
        database_url = pooler.url() if pooler and number % 2 else site.database_url
        settings = {"redis_url": url, "database_url": database_url, "admin_port": str(admin_port), **TRIMMED}
        orders = _orders(setup, library, f"worker-{number}")
        environment = _environment(orders, **COMMON, **settings, handlers=",".join(GROUPS))
        site.workers.append(Supervised(f"worker-{number}", Worker(setup.worker, setup.folder, environment), orders))
        site.worker_admin_urls.append(f"http://127.0.0.1:{admin_port}")


def _orders(setup: Setup, library: Path | None, name: str) -> Orders | None:
    return Orders(library, setup.folder / f"{name}.orders") if library else None


def _environment(orders: Orders | None, **settings: str) -> Mapping[str, str]:
    """Return what a process starts with: no settings but these."""
    mine = child_environment(**settings)
    foreign = {name for name in mine if name.startswith(PREFIX)} - {f"{PREFIX}{name.upper()}" for name in settings}
    kept = {name: value for name, value in mine.items() if name not in foreign}
    return {**kept, **(orders.environment if orders else {})}


@asynccontextmanager
async def _supervised(site: Cluster) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        keeping = [tasks.create_task(site.redis.run())]
        try:
            await until(lambda: _answers(site.control))
            keeping += [tasks.create_task(one.run()) for one in site.supervised if one is not site.redis]
            assert await site.is_ready(), "a process did not start; see its log"
            yield
        finally:
            for task in keeping:
                task.cancel()
            for one in site.supervised:
                one.kill()


async def _answers(control: Redis) -> bool:
    try:
        await control.ping()
    except (RedisError, OSError):
        return False
    return True
