"""`store` works with PostgreSQL as managed databases offer it: connection strings, TLS, and a pooler."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from console.main import make_app
from runtime.errors import WrongValue
from stream.keys import Shard
from tests.support.in_process import run_worker
from tests.support.samples.events import body, event
from tests.support.servers.pooled_postgresql import PASSWORD, pgbouncer, tls_postgresql
from tests.support.streams.settled import append_payloads, is_settled
from tests.support.waiting import until
from tests.support.workers.store_rows import count_rows
from worker.handlers.errors import Unavailable
from worker.settings import WorkerSettings
from worker.store.database import open_engine
from worker.store.handler import Store
from worker.store.migrate import migrate
from worker.store.postgresql.url import check, connect_arguments

NUMBER = "447700900123"


@pytest.fixture(scope="module")
def tls() -> Iterator[tuple[str, Path]]:
    """Yield a PostgreSQL that accepts only TLS."""
    with tls_postgresql() as server:
        yield server


@pytest.fixture
def pooled_url(postgresql_url: str) -> Iterator[str]:
    """Return the URL of an empty database behind a PgBouncer with three server connections."""
    parts = urlsplit(postgresql_url)
    with pgbouncer(parse_qs(parts.query)["host"][0], parts.path.removeprefix("/")) as url:
        yield url


async def work(valkey_url: str, server: Redis, shard: Shard, url: str) -> None:
    """Migrate, let two workers store 3,000 statuses, and read them with the commands."""
    common = {"redis_url": valkey_url, "stream": shard.name, "database_url": url, "batch_entries": "50"}
    run = CliRunner(env={f"ACKSTREAM_{name.upper()}": value for name, value in common.items()}).invoke
    for _ in range(2):
        assert (await asyncio.to_thread(run, make_app(["migrate"]), ["migrate"])).exit_code == 0
    await append_payloads(server, shard, *(body(message_uuid=f"m-{n % 120}", n=n) for n in range(600)))
    async with (
        run_worker(**common, handlers="store"),
        run_worker(**common, handlers="store"),
    ):
        await until(lambda: is_settled(server, shard, "store"), seconds=60)
        trace = await asyncio.to_thread(run, make_app(["trace"]), ["trace", "m-7", "--json"])
        stats = await asyncio.to_thread(run, make_app(["stats"]), ["stats", "--json"])
    assert len(orjson.loads(trace.stdout)["events"]) == 5
    assert stats.exit_code == 0
    engine = open_engine(url)
    assert await count_rows(engine, "status_events") == 600
    await engine.dispose()


async def test_a_pooler_in_transaction_mode_works(
    valkey_url: str, server: Redis, shard: Shard, pooled_url: str
) -> None:
    """Migrate, two workers and the commands share the server connections of a PgBouncer."""
    await work(valkey_url, server, shard, pooled_url)


async def test_many_clients_of_a_pooler_do_not_disturb_each_other(pooled_url: str) -> None:
    """Statements of several processes do not collide although each transaction uses another connection."""
    engines = [open_engine(pooled_url, keeps_plans=True) for _ in range(6)]
    await migrate(engines[0])

    async def store(engine: AsyncEngine, number: int) -> None:
        handler = Store(engine)
        for n in range(20):
            await handler.handle([event(body(message_uuid=f"m-{(number + n) % 7}", n=n, by=number))])

    await asyncio.gather(*(store(engine, number) for number, engine in enumerate(engines)))
    assert await count_rows(engines[0], "status_events") == 120
    for engine in engines:
        await engine.dispose()


async def test_a_verified_connection_works(valkey_url: str, server: Redis, shard: Shard, tls: tuple[str, Path]) -> None:
    """`sslmode=verify-full` accepts a server with a certificate of the given authority."""
    host, root = tls
    await work(
        valkey_url,
        server,
        shard,
        f"postgres://postgres:{PASSWORD}@{host}/postgres?sslmode=verify-full&sslrootcert={root}",
    )


@pytest.mark.parametrize(
    ("query", "works"),
    [
        ("sslmode=require", True),
        ("sslmode=require&connect_timeout=10&application_name=shop", True),
        ("sslmode=prefer&target_session_attrs=read-write&channel_binding=prefer&gssencmode=disable", True),
        ("sslmode=require&options=-c%20search_path%3Dpublic&pgbouncer=true", True),
        ("sslmode=verify-ca&sslrootcert={root}", True),
        ("channel_binding=require&sslmode=require&sslrootcert={root}", True),
        ("", True),
        ("sslmode=disable", False),
        ("sslmode=verify-full", False),
        ("sslmode=verify-full&sslrootcert=system", False),
        ("sslmode=require&channel_binding=require", False),
    ],
)
async def test_parameters_do_what_they_say(tls: tuple[str, Path], query: str, *, works: bool) -> None:
    """The URLs of RDS, Neon, Supabase, Heroku and Render work; verification refuses an unknown authority."""
    host, root = tls
    engine = open_engine(f"postgresql://postgres:{PASSWORD}@{host}/postgres?{query.format(root=root)}")
    try:
        if works:
            await migrate(engine)
            await Store(engine).handle([event(body())])
        else:
            with pytest.raises(Unavailable, match=r"away|denies this user"):
                await Store(engine).handle([event(body())])
    finally:
        await engine.dispose()


async def test_verify_full_refuses_another_host_name(tls: tuple[str, Path]) -> None:
    """`verify-full` compares the host name with the certificate, `verify-ca` does not."""
    host, root = tls
    address = host.replace("localhost", "127.0.0.1")
    for mode, works in (("verify-full", False), ("verify-ca", True)):
        url = f"postgresql://postgres:{PASSWORD}@{address}/postgres?sslmode={mode}&sslrootcert={root}"
        engine = open_engine(url)
        if works:
            await migrate(engine)
        else:
            with pytest.raises(Unavailable, match="SSLCertVerificationError"):
                await Store(engine).handle([event(body())])
        await engine.dispose()


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("sslmode=always", "sslmode"),
        ("keepalive=1", "keepalive"),
        ("connect_timeout=soon", "connect_timeout"),
        ("channel_binding=maybe", "channel_binding"),
        ("target_session_attrs=x", "target_session_attrs"),
        ("sslmode=require&statement_cache_size=0", "statement_cache_size"),
    ],
)
def test_an_invalid_parameter_is_named(query: str, named: str) -> None:
    """One line names the parameter and does not quote the password."""
    url = f"postgres://user:{PASSWORD}@db.example.test/x?{query}"
    with pytest.raises(WrongValue, match=named):
        check(url)
    with pytest.raises(Exception, match=named) as caught:
        WorkerSettings.load(database_url=url)
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgres://u:p@host:port/x", "postgresql://u:p@[::1/x", "postgresql://u:p#w@host/x"])
def test_an_invalid_url_is_refused(url: str) -> None:
    """The sentence says how to write special characters."""
    with pytest.raises(WrongValue, match="%XX"):
        check(url)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("host:99999/x", "1 to 65535"),
        ("host:0/x", "1 to 65535"),
        ("one:5432,two:99999/x", "1 to 65535"),
        ("[::1]:99999/x", "1 to 65535"),
        ("/x?host=host&port=99999", "1 to 65535"),
        ("/x?host=one,two&port=5432,port", "1 to 65535"),
        ("/x?host=ho st", "blank"),
        ("ho st/x", "host"),
    ],
)
def test_an_impossible_address_is_named(address: str, reason: str) -> None:
    """A port that there is not and a blank in a host are the reason, not a host that is unknown later."""
    with pytest.raises(WrongValue, match=reason) as caught:
        check(f"postgresql://u:hunter2@{address}")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("rest", ["[::1]/x", "[::1]:65535/x", "one:1,two/x", "/x?host=/run/my%20sockets&port=5433"])
def test_a_possible_address_is_accepted(rest: str) -> None:
    """IPv6, several hosts, and a folder of sockets whose name has a blank."""
    check(f"postgresql://u:p@{rest}")


def test_user_and_password_are_read_as_they_are_written() -> None:
    """Percent escapes in user and password are decoded, and an @ in the password needs no escape."""
    arguments = connect_arguments("postgres://us%40er:p%2Fa@ss%23@a.test:1,b.test:2/db?application_name=shop")
    assert (arguments["user"], arguments["password"]) == ("us@er", "p/a@ss#")
    assert arguments["dsn"] == "postgresql://a.test:1,b.test:2/db"
    assert arguments["server_settings"] == {"application_name": "shop"}


async def test_an_error_of_postgresql_is_not_quoted(postgresql_url: str) -> None:
    """Errors of PostgreSQL quote values; the log has only their classes."""
    engine = open_engine(postgresql_url.replace("postgres:@", f"{NUMBER}:x@"))
    with pytest.raises(Unavailable) as caught:
        await Store(engine).handle([event(body(to=NUMBER))])
    assert NUMBER not in str(caught.value)
    await engine.dispose()
