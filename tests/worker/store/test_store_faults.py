"""`store` distinguishes faults of the database from faults of an event."""

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from console.up.valkey import find_free_port
from stream.keys import Shard
from tests.support.in_process import run_worker
from tests.support.samples.events import body, event
from tests.support.streams.delayed import read_delayed
from tests.support.streams.settled import append_payloads
from tests.support.waiting import until
from tests.support.workers.store_rows import count_rows
from worker.database_fault import describe_database_fault
from worker.handlers.errors import Divide, Unavailable
from worker.store.database import is_away, open_engine
from worker.store.handler import Store
from worker.store.migrate import migrate

NUMBER = "447700900123"

# On both databases: a row that it does not take.
REFUSED = {
    "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON status_events WHEN NEW.message_uuid = 'm-7' "
    "BEGIN SELECT RAISE(ABORT, 'not this one'); END",
    "postgresql": "ALTER TABLE status_events ADD CHECK (message_uuid <> 'm-7')",
}


async def refuse(engine: AsyncEngine) -> None:
    """Make the database refuse events of message m-7."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql(REFUSED[engine.dialect.name])


async def test_an_event_that_the_database_refuses_is_at_fault(engine: AsyncEngine) -> None:
    """Its batch is divided; alone, the event fails; neither batch stores an event."""
    await refuse(engine)
    store, bad = Store(engine), event(body(message_uuid="m-7", to=NUMBER))
    for batch in ([event(body()), bad], [bad]):
        with pytest.raises(Divide) as caught:
            await store.handle(batch)
        assert not is_away(caught.value.__cause__ or caught.value)
    assert await count_rows(engine, "status_events") == 0


async def test_only_the_event_at_fault_is_delayed(
    valkey_url: str,
    server: Redis,
    shard: Shard,
    engine: AsyncEngine,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The rest of its batch is stored; the log has the class of the error and none of the values that it quotes."""
    await refuse(engine)
    await append_payloads(server, shard, *(body(message_uuid=f"m-{n}", to=NUMBER) for n in range(20)))

    async def is_parked() -> bool:
        return bool(await read_delayed(server, shard, "store"))

    settings = {"redis_url": valkey_url, "stream": shard.name, "database_url": database_url, "handlers": "store"}
    async with run_worker(**settings, retry_base_seconds=3600, retry_cap_seconds=3600):
        await until(is_parked)
    assert await count_rows(engine, "status_events") == 19
    ((copy, _),) = await read_delayed(server, shard, "store")
    assert copy[b"error"].startswith(b"failed: IntegrityError")
    assert NUMBER.encode() not in copy[b"error"]
    assert NUMBER not in capsys.readouterr().out
    assert (await server.xpending(shard.stream, "store"))["pending"] == 0


DAMAGED = (
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE 'XX001'; END $$",
    "CREATE TRIGGER t BEFORE INSERT ON status_events FOR EACH ROW WHEN (NEW.message_uuid = 'm-7') EXECUTE FUNCTION f()",
)


async def test_a_damaged_row_holds_up_only_its_own_event(
    valkey_url: str, server: Redis, shard: Shard, postgresql_url: str
) -> None:
    """The other events of the batch are stored; the delayed retry of this one names the damage and the next step."""
    engine = open_engine(postgresql_url)
    await migrate(engine)
    async with engine.begin() as connection:
        for statement in DAMAGED:
            await connection.exec_driver_sql(statement)
    await append_payloads(server, shard, *(body(message_uuid=f"m-{n}") for n in range(20)))

    async def is_delayed() -> bool:
        return bool(await read_delayed(server, shard, "store"))

    settings = {"redis_url": valkey_url, "stream": shard.name, "database_url": postgresql_url, "handlers": "store"}
    async with run_worker(**settings, retry_base_seconds=3600, retry_cap_seconds=3600):
        await until(is_delayed)
    assert await count_rows(engine, "status_events") == 19
    ((copy, _),) = await read_delayed(server, shard, "store")
    assert copy[b"error"].startswith(b"refused: a table, a row or an index is damaged (")
    assert b"REINDEX" in copy[b"error"]
    await engine.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """Return the URL of an empty SQLite database."""
    return f"sqlite:///{tmp_path / 'test.db'}"


async def fault_at(url: str, *statements: str, **parameters: Any) -> BaseException:
    """Return the error of the last of these statements, all in one transaction."""
    engine = open_engine(url, create=True)

    async def execute() -> None:
        async with engine.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement), parameters)

    with pytest.raises(Exception, match=r".") as caught:
        await execute()
    await engine.dispose()
    return caught.value


NOT_WRITTEN = (
    ("SELECT * FROM nowhere",),
    ("CREATE TABLE t (x)", "PRAGMA query_only = ON", "INSERT INTO t VALUES (1)"),
    ("CREATE TABLE t (x)", "PRAGMA max_page_count = 2", "INSERT INTO t VALUES (zeroblob(100000))"),
)
"""Statements whose last one fails in a database without tables, read-only, or full."""


@pytest.mark.parametrize("statements", NOT_WRITTEN)
async def test_a_database_that_cannot_be_written_is_away(sqlite: str, statements: tuple[str, ...]) -> None:
    """SQLite without tables, read-only or full counts as away, because an operator can correct it."""
    assert is_away(await fault_at(sqlite, *statements))


async def test_a_database_that_is_locked_is_away(sqlite: str) -> None:
    """A slow writer of SQLite is not a fault of the events."""
    writing = open_engine(sqlite, create=True)
    async with writing.begin():
        assert is_away(await fault_at(sqlite, "SELECT 1"))
    await writing.dispose()


async def test_a_file_that_is_not_a_database_is_away(sqlite: str, tmp_path: Path) -> None:
    """No event is dead-lettered because a disk failed."""
    (tmp_path / "test.db").write_bytes(b"no database " * 1000)
    assert is_away(await fault_at(sqlite, "SELECT 1"))


@pytest.mark.parametrize(
    ("statement", "value"),
    [("SELECT :x", 2**70), ("INSERT INTO t VALUES (:x)", None)],
)
async def test_a_value_that_sqlite_refuses_is_at_fault(sqlite: str, statement: str, value: object) -> None:
    """The value is too large for its type, or violates a constraint."""
    assert not is_away(await fault_at(sqlite, "CREATE TABLE t (x NOT NULL)", statement, x=value))


@pytest.mark.parametrize(
    ("state", "away"),
    [
        *((state, True) for state in ("08006", "25006", "28000", "40001", "40P01", "42P01", "53100", "53300")),
        *((state, True) for state in ("55P03", "57014", "57P01", "57P03", "58000", "XX000")),
        *((state, False) for state in ("22001", "22003", "22021", "23502", "23505", "23514", "54000", "P0001")),
        *((state, False) for state in ("58030", "58P01", "XX001", "XX002")),
    ],
)
async def test_the_code_of_a_postgresql_error_decides(postgresql_url: str, state: str, away: bool) -> None:
    """Connections, locks, deadlocks, a full disk, a shutdown: away. Values, limits, damaged rows: at fault."""
    error = await fault_at(postgresql_url, f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")
    assert is_away(error) is away


@pytest.mark.parametrize(
    ("state", "meaning", "next_step"),
    [
        ("55P03", "another program holds a lock of the database", "end its transaction"),
        ("25006", "the database takes no writes", "name the primary"),
        ("42501", "the database denies this user", "rights on the tables"),
        ("42P01", "a table or a column is missing", "`ackstream migrate`"),
        ("53100", "the disk of the database is full", "room"),
        ("53300", "the database has too many connections", "max_connections"),
        ("08006", "the database is away", "start it"),
        ("55000", "the database is away", "start it"),  # it accepts no connections
        ("58030", "the disk of the database fails", "look at the disk"),
        ("58P01", "a table, a row or an index is damaged", "restore a backup"),
        ("XX001", "a table, a row or an index is damaged", "restore a backup"),
        ("XX002", "a table, a row or an index is damaged", "REINDEX"),
        ("XX000", "the database reports an error", "log of its server"),
        ("25P03", "the database reports an error", "log of its server"),
    ],
)
async def test_a_fault_of_postgresql_has_a_next_step(
    postgresql_url: str, state: str, meaning: str, next_step: str
) -> None:
    """The reason that `/ready` gives says what is wrong; a database that answers is not called away."""
    error = await fault_at(postgresql_url, f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")
    text = describe_database_fault(error)
    assert (text.startswith(f"{meaning} ("), next_step in text) == (True, True)


async def test_a_fault_of_sqlite_has_a_next_step(sqlite: str, tmp_path: Path) -> None:
    """A lock, a full disk, a file without the right to write and a file of another kind have different reasons."""
    texts = [describe_database_fault(await fault_at(sqlite, *statements)) for statements in NOT_WRITTEN]
    writing = open_engine(sqlite, create=True)
    async with writing.begin():
        texts.append(describe_database_fault(await fault_at(sqlite, "SELECT 1")))
    await writing.dispose()
    (tmp_path / "other.db").write_bytes(b"no database " * 1000)
    texts.append(describe_database_fault(await fault_at(sqlite.replace("test.db", "other.db"), "SELECT 1")))

    assert [text.partition(" (")[0] for text in texts] == [
        "a table or a column is missing",
        "the database takes no writes",
        "the disk of the database is full",
        "another program holds a lock of the database",
        "the file is damaged, or not a database",
    ]


async def test_a_value_that_the_driver_refuses_is_at_fault(postgresql_url: str) -> None:
    """The driver raises the error before it sends the value to PostgreSQL."""
    assert not is_away(await fault_at(postgresql_url, "SELECT CAST(:x AS integer)", x=2**40))


async def test_a_server_that_is_not_there_or_does_not_answer_is_away(engine: AsyncEngine) -> None:
    """A refused connection and a connection that times out count as away, so the batch is tried again."""
    nowhere = open_engine(f"postgresql://postgres:@127.0.0.1:{find_free_port()}/postgres")
    with pytest.raises(Unavailable):
        await Store(nowhere).handle([event(body())])
    with pytest.raises(Unavailable):
        await Store(engine, timeout_seconds=0).handle([event(body())])
    await nowhere.dispose()
    assert not is_away(ValueError())


async def test_an_error_of_a_statement_is_at_fault(sqlite: str, postgresql_url: str) -> None:
    """Too many parameters, a value that is too large, or an invalid statement is not a fault of the server."""
    names = [f"p{n}" for n in range(33_000)]
    too_many = f"SELECT 1 WHERE 1 IN ({', '.join(f':{name}' for name in names)})"
    assert not is_away(await fault_at(postgresql_url, too_many, **dict.fromkeys(names, 1)))
    for statement in ("SELECT zeroblob(2000000000)", "SELECT nonsense nonsense nonsense"):
        assert not is_away(await fault_at(sqlite, statement))
