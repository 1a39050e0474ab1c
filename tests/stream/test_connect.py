import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme
import uvloop
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError
from redis.exceptions import TimeoutError as RedisTimeoutError

from console.up.valkey import find_free_port
from ingest.append import connection as append_connection
from stream.keys import Shard
from stream.redis import client as connect
from stream.redis.errors import PrimaryUnknown
from tests.support.in_process import run_ingest, run_worker
from tests.support.processes import Valkey
from tests.support.samples.events import body
from tests.support.servers.listen import run_listener
from tests.support.servers.proxy import run_proxy, through
from tests.support.servers.redis_users import add_user
from tests.support.servers.sentinels import Node
from tests.support.streams.settled import is_settled
from tests.support.waiting import until


async def test_a_server_is_asked_what_it_can_do(server: Redis) -> None:
    """Commands of the server are returned; missing ones are left out."""
    assert await connect.find_commands(server, ["XADD", "XFUTURE", "EVALSHA"]) == {"XADD", "EVALSHA"}


async def test_a_server_that_lacks_a_command_is_refused_in_one_sentence(server: Redis) -> None:
    """The sentence names the command and the versions that have it."""
    with pytest.raises(connect.ServerUnfit, match=r"has no XFUTURE, .*Redis 7.0, Valkey 8"):
        await connect.require_commands(server, ["XADD", "XFUTURE"])


async def test_what_may_not_be_asked_counts_as_absent(server: Redis, valkey_url: str, shard: Shard) -> None:
    """The error for a user without COMMAND INFO says so."""
    url = await add_user(server, valkey_url, shard.name, "+@all", "-command")
    client = connect.client(url)
    with pytest.raises(connect.ServerUnfit, match="may not run COMMAND INFO"):
        await connect.require_commands(client, ["XADD"])
    await client.aclose()


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_connection_that_another_task_closes_is_lost(valkey_url: str, steps: int) -> None:
    """While it asks whether it is well, or between that and the write, it may be closed; the program makes no error."""
    user = connect.client(valkey_url)
    pool: Any = user.connection_pool
    connection = await pool.get_connection()

    async def is_well() -> None:
        for _ in range(2):
            await asyncio.sleep(0)
        if steps == 1:
            await connection.read_response()

    connection.check_health = is_well
    sending = asyncio.create_task(connection.send_command("PING"))
    for _ in range(steps):
        await asyncio.sleep(0)
    await connection.disconnect(nowait=True)
    with pytest.raises(RedisConnectionError):
        await sending
    await pool.release(connection)
    await user.aclose()


def test_a_connection_that_was_reset_is_lost_whichever_loop_runs(valkey_url: str) -> None:
    """The error that uvloop raises at the next write counts as Redis being away; then Redis comes back."""

    async def reset() -> None:
        async with run_proxy(urlsplit(valkey_url).port or 0) as proxy:
            client = connect.client(through(proxy, valkey_url))
            pool: Any = client.connection_pool
            connection = await pool.get_connection()
            proxy.cut()

            async def send_until_the_reset_has_come() -> None:
                for _ in range(10_000):
                    await connection.send_command("PING", check_health=False)
                    await asyncio.sleep(0)

            with pytest.raises(RedisConnectionError):
                await send_until_the_reset_has_come()
            await pool.release(connection)
            assert await client.ping()
            await client.aclose()

    uvloop.run(reset())


WORKER_COMMANDS = (
    "evalsha script time get set del pexpire hget hset hdel hexists hgetall hincrby hlen hmget sadd sismember info "
    "xack xadd xclaim xdel xgroup xinfo xlen xpending xreadgroup zadd zcard zmscore zrangebyscore zrem zremrangebyrank "
    "zremrangebyscore memory|usage"
)


async def test_ingest_and_worker_need_few_rights(server: Redis, valkey_url: str, shard: Shard) -> None:
    """Users with only their own commands on only their own keys do all the work."""
    keys = f"~{shard.name}:*"
    health = ("+ping", "+command|info")
    ingest_commands = [f"+{name.lower()}" for name in append_connection.COMMANDS]
    worker_commands = [f"+{name}" for name in WORKER_COMMANDS.split()]
    ingest_url = await add_user(server, valkey_url, f"{shard.name}-ingest", keys, *health, *ingest_commands)
    worker_url = await add_user(server, valkey_url, f"{shard.name}-worker", keys, *health, *worker_commands)
    async with (
        run_ingest(redis_url=ingest_url, stream=shard.name) as running,
        run_worker(redis_url=worker_url, stream=shard.name, handlers="log"),
        aiohttp.ClientSession() as http,
    ):
        for payload in (body(), b"bad"):
            async with http.post(running.url, data=payload) as answer:
                assert answer.status == 200
        await until(lambda: is_settled(server, shard, "log"))
        await until(lambda: exists(server, shard.checkpoint("log")))
    assert await server.xlen(shard.dead("log")) == 1


async def exists(server: Redis, key: str) -> bool:
    return bool(await server.exists(key))


@asynccontextmanager
async def serve_tls(port: int, certificate: trustme.LeafCert) -> AsyncIterator[int]:
    """A TLS port in front of a server without one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    async with run_listener(serve, context) as listened:
        yield listened


async def test_tls_is_spoken_and_certificates_are_checked(
    server: Redis, valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """With rediss:// ingest and worker do their work; an unknown authority's certificate is refused."""
    parts = urlsplit(valkey_url)
    authority, stranger = trustme.CA(), trustme.CA()
    for name, ca in (("ca.pem", authority), ("other.pem", stranger)):
        ca.cert_pem.write_to_path(tmp_path / name)
    async with serve_tls(parts.port or 0, authority.issue_cert("127.0.0.1")) as port:
        url = f"rediss://:{parts.password}@127.0.0.1:{port}?ssl_ca_certs={tmp_path}"
        async with (
            run_ingest(redis_url=f"{url}/ca.pem", stream=shard.name) as running,
            run_worker(redis_url=f"{url}/ca.pem", stream=shard.name, handlers="log"),
            aiohttp.ClientSession() as http,
        ):
            async with http.post(running.url, data=body()) as answer:
                assert answer.status == 200
            await until(lambda: is_settled(server, shard, "log"))
        wrong = connect.client(f"{url}/other.pem")
        with pytest.raises(RedisConnectionError, match="certificate"):
            await wrong.ping()
        await wrong.aclose()


async def test_tls_is_spoken_to_the_nodes_of_a_cluster(shard: Shard, tmp_path: Path) -> None:
    """With rediss+cluster:// the first node and the nodes that it names are asked over TLS."""
    authority, port = trustme.CA(), find_free_port()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    node = Node(tmp_path / "node", port, f"cluster-enabled yes\ncluster-port {find_free_port()}\nsave ''\n")
    async with node.run(), serve_tls(port, authority.issue_cert("127.0.0.1")) as tls_port:
        async with connect.client(f"redis://127.0.0.1:{port}") as plain:
            ask: Any = plain.execute_command
            await ask("CONFIG SET", "cluster-announce-port", tls_port)
            await ask("CLUSTER ADDSLOTSRANGE", 0, 16383)
            await until(lambda: is_up(plain))
        url = f"rediss+cluster://127.0.0.1:{tls_port}?ssl_ca_certs={tmp_path}/ca.pem"

        async def is_served() -> bool:
            with suppress(RedisTimeoutError, PrimaryUnknown):  # on a machine that stands still for a second
                await server.set(shard.stream, "1")
                answers = await server.get(shard.stream), await connect.find_servers(url)
                return answers == (b"1", [("127.0.0.1", tls_port)])
            return False

        async with connect.client(url) as server:
            await until(is_served)


async def is_up(node: Any) -> bool:
    return bool((await node.execute_command("CLUSTER INFO"))["cluster_state"] == "ok")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rediss://me:hunter2@example.test:6380/1?ssl_ca_certs=x", "rediss://example.test:6380/1"),
        ("redis+sentinel://:hunter2@a:1,b:2/m/0?sentinel_password=hunter2", "redis+sentinel://a:1,b:2/m/0"),
        ("unix://me:hunter2@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("sqlite:////data/me@home.db", "sqlite:////data/me@home.db"),
        ("postgresql://me:hunter2/hunter2@example.test/x", "postgresql://…"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """Host, port and database stay; user, password and options go, and where they end is not clear, everything."""
    assert connect.redact_url(url) == shown


async def test_a_socket_in_the_file_system_is_spoken_to(tmp_path: Path) -> None:
    """A client with a unix:// URL, a password and a database gets an answer."""
    valkey = Valkey(tmp_path / "valkey")
    with (tmp_path / "valkey" / "valkey.conf").open("a") as config:
        config.write(f"unixsocket {tmp_path}/s\n")
    async with valkey.run():
        client = connect.client(f"unix://:{urlsplit(valkey.url).password}@{tmp_path}/s?db=1")
        assert await client.ping()
        await client.aclose()


async def test_tcp_notices_a_peer_that_is_gone(server: Redis) -> None:
    """Idle connections are probed, and unconfirmed data ends the connection."""
    pool: Any = server.connection_pool
    connection = await pool.get_connection()
    plug = connection._writer.get_extra_info("socket")  # noqa: SLF001 - there is no public way to it
    assert plug.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert {name: plug.getsockopt(socket.IPPROTO_TCP, name) for name in connect.KEEPALIVE} == connect.KEEPALIVE
    assert len(connect.KEEPALIVE) == 4 or sys.platform != "linux"
    await pool.release(connection)


def test_errors_are_named_without_their_text() -> None:
    """A database's error text may quote a phone number: only classes and Redis's own codes are shown."""
    cause = ValueError("447700900000")
    error = OutOfMemoryError("OOM command not allowed: 447700900000")
    error.__cause__ = cause
    assert connect.describe_error(error) == "OutOfMemoryError(OOM) < ValueError"
