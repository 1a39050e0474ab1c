"""`/ready` names a database that is away, also while no event comes."""

from dataclasses import replace

import aiohttp
import pytest
from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncEngine

from console.up.valkey import find_free_port
from stream.keys import Shard
from tests.support.in_process import answers, run_worker
from tests.support.samples.events import body, event
from tests.support.servers.switched_database import SwitchedDatabase
from tests.support.waiting import until
from worker.store.database import open_engine
from worker.store.handler import Store
from worker.timing import TIMING


@pytest.fixture
def database(request: pytest.FixtureRequest, migrated_url: str) -> SwitchedDatabase:
    """Return a database of either kind with its tables."""
    is_file = migrated_url.startswith("sqlite")
    return SwitchedDatabase(migrated_url, None if is_file else request.getfixturevalue("postgresql"))


def count_failures() -> float:
    labels = {"group": "store", "error": "Unavailable"}
    return REGISTRY.get_sample_value("ackstream_handler_failures_total", labels) or 0.0


async def test_ready_names_a_database_that_is_away_while_no_event_comes(
    valkey_url: str, shard: Shard, database: SwitchedDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker without events is not ready while its database is away, from its start or later, and ready afterwards.

    The log has one line for each time, and no failure of the handler is counted.
    """
    failures = count_failures()
    port, reasons = find_free_port(), list[str]()

    async def is_away() -> bool:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/ready") as response:
            assert reasons or response.status == 503
            reason = await response.text()
        if "group store waits for its database: the database is away" in reason:
            reasons.append(reason)
            return True
        return False

    settings = {"redis_url": valkey_url, "stream": shard.name, "database_url": database.url, "admin_port": port}
    database.take_away()
    async with run_worker(replace(TIMING, quiet=0.3), **settings, handlers="store"):
        await until(lambda: answers(f"http://127.0.0.1:{port}/live", 200))
        for number in range(2):
            if number:
                database.take_away()
            await until(is_away)
            database.bring_back()
            await until(lambda: answers(f"http://127.0.0.1:{port}/ready", 200))
    assert capsys.readouterr().out.count("handler.unavailable") == 2
    assert count_failures() == failures


async def test_a_check_waits_for_no_writer(engine: AsyncEngine, database_url: str) -> None:
    """A check does not take the lock of SQLite, so a slow batch of another worker does not look like a fault."""
    second = open_engine(database_url)
    async with engine.begin():
        await Store(second, timeout_seconds=20).check()  # with the lock it would wait for all of it
    await Store(second).handle([event(body())])
    await second.dispose()
