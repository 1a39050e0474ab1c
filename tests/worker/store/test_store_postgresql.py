"""`store` on PostgreSQL keeps its connections, which may be lost between two batches."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.samples.events import body, event
from tests.support.workers.store_rows import count_rows
from worker.handlers.errors import Unavailable
from worker.store import database
from worker.store.database import open_engine
from worker.store.handler import Store

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])


async def close_connections(url: str) -> None:
    """Let the server close all connections of other clients to this database."""
    other = open_engine(url)
    async with other.connect() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() "
                "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )
    await other.dispose()


async def test_a_connection_lost_while_idle_fails_no_batch(
    engine: AsyncEngine, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was idle is tested before its use and replaced."""
    monkeypatch.setattr(database, "UNTESTED_SECONDS", 0)
    store = Store(engine)
    await store.handle([event(body(n=1))])

    await close_connections(migrated_url)
    await store.handle([event(body(n=2))])

    assert await count_rows(engine, "status_events") == 2


async def test_a_connection_lost_between_two_batches_fails_one(
    engine: AsyncEngine, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection in constant use is not tested: if it is lost, a batch waits for the database and is tried again."""
    monkeypatch.setattr(database, "UNTESTED_SECONDS", 600)
    store = Store(engine)
    await store.handle([event(body(n=1))])

    await close_connections(migrated_url)
    with pytest.raises(Unavailable):
        await store.handle([event(body(n=2))])
    await store.handle([event(body(n=2))])

    assert await count_rows(engine, "status_events") == 2
