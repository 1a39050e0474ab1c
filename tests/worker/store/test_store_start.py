"""`store` writes only if the database, its tables and the file that it opened are there."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from console.up.valkey import find_free_port
from stream.keys import Shard
from tests.support.in_process import answers, run_worker
from tests.support.samples.events import body, event
from tests.support.streams.settled import append_payloads, is_settled
from tests.support.waiting import until
from tests.support.workers.store_rows import count_rows
from worker.handlers.errors import Unavailable
from worker.store.database import open_engine
from worker.store.handler import Store
from worker.store.migrate import migrate, migrate_at
from worker.store.revision import SchemaMismatch, check_revision
from worker.store.tables import REVISION

AWAY = f"postgresql://postgres:x@127.0.0.1:{find_free_port()}/postgres"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_database_that_is_away_at_the_start_stops_only_store(
    valkey_url: str, server: Redis, shard: Shard
) -> None:
    """Another handler of the same worker handles all events while the database is away."""
    await append_payloads(server, shard, *(body(message_uuid=f"m-{n}") for n in range(3)))
    async with run_worker(redis_url=valkey_url, stream=shard.name, database_url=AWAY, handlers="store,log"):
        await until(lambda: is_settled(server, shard, "log"))
    assert (await server.xpending(shard.stream, "store"))["pending"] == 3


async def test_ready_names_the_missing_tables(
    valkey_url: str, server: Redis, shard: Shard, postgresql_url: str
) -> None:
    """A worker on a database without tables runs, and `/ready` names the next step."""
    port = find_free_port()
    await append_payloads(server, shard, body())

    async def says_so() -> bool:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/ready") as response:
            return response.status == 503 and "run `ackstream migrate`" in await response.text()

    settings = {"redis_url": valkey_url, "stream": shard.name, "database_url": postgresql_url, "admin_port": port}
    async with run_worker(**settings, handlers="store"):
        await until(lambda: answers(f"http://127.0.0.1:{port}/live", 200))
        await until(says_so)


async def test_store_waits_for_missing_tables(database_url: str) -> None:
    """The first batch reports the missing tables and the next step; after `migrate` the same worker stores it."""
    engine = open_engine(database_url, create=True)
    store = Store(engine)
    with pytest.raises(Unavailable, match=r"revision none.*run `ackstream migrate`"):
        await store.handle([event(body())])
    await migrate(engine)
    await store.handle([event(body())])
    assert await count_rows(engine, "messages") == 1
    await engine.dispose()


async def test_a_missing_file_is_not_created_by_a_reader_or_writer(tmp_path: Path) -> None:
    """Only `migrate` creates a database."""
    engine = open_engine(f"sqlite:///{tmp_path / 'no' / 'test.db'}")
    with pytest.raises(Unavailable, match="away"):
        await Store(engine).handle([event(body())])
    await engine.dispose()
    assert names_in(tmp_path) == []


async def set_revision(engine: AsyncEngine, revision: str, earliest: str) -> None:
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608
        await connection.exec_driver_sql(f"UPDATE ackstream_schema SET earliest_revision = '{earliest}'")  # noqa: S608


async def test_a_later_database_that_is_compatible_is_accepted(engine: AsyncEngine) -> None:
    """Workers of the previous version continue after a migration, and their `migrate` changes nothing."""
    await set_revision(engine, "9000", REVISION)
    await migrate(engine)
    await Store(engine).handle([event(body())])
    assert await count_rows(engine, "messages") == 1


async def test_a_later_database_that_is_not_compatible_is_refused(engine: AsyncEngine) -> None:
    """The sentence names the version to start."""
    await set_revision(engine, "9000", "9000")
    for refused in (check_revision, migrate):
        with pytest.raises(SchemaMismatch, match=r"revision 9000.*start the later version"):
            await refused(engine)
    with pytest.raises(Unavailable, match="revision 9000"):
        await Store(engine).handle([event(body())])


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """Return the path of a SQLite database with its tables."""
    path = tmp_path / "test.db"
    await migrate_at(f"sqlite:///{path}")
    return path


@pytest.mark.parametrize("removed", [("test.db", "test.db-wal", "test.db-shm"), ("test.db",), ("test.db-wal",)])
async def test_a_removed_file_is_noticed_before_an_ack(file: Path, removed: tuple[str, ...]) -> None:
    """Rows that were written after the file, or its log, was removed are lost, so the batch fails."""
    engine = open_engine(f"sqlite:///{file}")
    store = Store(engine)
    await store.handle([event(body(message_uuid="before"))])
    for name in removed:
        (file.parent / name).unlink()
    with pytest.raises(Unavailable, match="replaced or removed"):
        await store.handle([event(body(message_uuid="after"))])

    await migrate_at(f"sqlite:///{file}")
    await store.handle([event(body(message_uuid="after"))])
    await engine.dispose()
    opened = open_engine(f"sqlite:///{file}", read_only=True)
    assert await count_rows(opened, "messages WHERE message_uuid = 'after'") == 1
    await opened.dispose()


async def test_a_replaced_file_is_noticed_before_an_ack(file: Path) -> None:
    """After a restore the batch is written to the new file."""
    shutil.copy(file, file.with_suffix(".backup"))
    engine = open_engine(f"sqlite:///{file}")
    store = Store(engine)
    await store.handle([event(body(message_uuid="before"))])
    file.with_suffix(".backup").replace(file)
    with pytest.raises(Unavailable, match="replaced or removed"):
        await store.handle([event(body(message_uuid="after"))])

    await store.handle([event(body(message_uuid="after"))])
    await engine.dispose()
    opened = open_engine(f"sqlite:///{file}", read_only=True)
    assert await count_rows(opened, "messages WHERE message_uuid = 'after'") == 1
    await opened.dispose()


@pytest.mark.parametrize(
    "name", ["a%2Fb", "a b", "it's", 'say "x"', "why?", "a#b", "a;b&c=d", "\u00e9\u4e2d", "a:b@c", "[x]"]
)
async def test_any_folder_name_works(tmp_path: Path, name: str) -> None:
    """All characters after `sqlite:///` are the path, as the file system has it."""
    url = f"sqlite:///{tmp_path / name / 'test.db'}"
    await migrate_at(url)
    engine = open_engine(url)
    await Store(engine).handle([event(body())])
    assert await count_rows(engine, "messages") == 1
    await engine.dispose()
    assert names_in(tmp_path) == [name]
    assert names_in(tmp_path / name)[0] == "test.db"


async def test_a_restore_by_sqlite_itself_needs_no_stop(file: Path) -> None:
    """A running worker continues with the restored tables and stores the missing rows again."""
    engine = open_engine(f"sqlite:///{file}")
    store = Store(engine)
    await store.handle([event(body(message_uuid="before"))])
    with closing(sqlite3.connect(file)) as database, closing(sqlite3.connect(":memory:")) as backup:
        database.backup(backup)
        await store.handle([event(body(message_uuid="lost"))])
        backup.backup(database)

    await store.handle([event(body(message_uuid=name)) for name in ("before", "after")])
    assert await count_rows(engine, "messages") == 2
    await store.handle([event(body(message_uuid="lost"))])
    assert await count_rows(engine, "messages") == await count_rows(engine, "status_events") == 3
    await engine.dispose()
