import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis._parsers.base import BaseParser
from redis.asyncio import Redis
from redis.exceptions import ExecAbortError, RedisError

import stream.redis.errors
from console.up.valkey import find_free_port
from stream.keys import Shard
from stream.redis.client import ServerUnfit, client, require_commands
from stream.redis.errors import (
    AWAY,
    BUSY,
    CLUSTER,
    DENIED,
    FOREIGN,
    FULL,
    GONE,
    LOADING,
    NO_PRIMARY,
    SILENT,
    UNKNOWN,
    UNSUPPORTED,
    Deposed,
    RedisFault,
    identify_fault,
    quote_reason,
)
from tests.support.faults.redis_faults import FAULTS, FaultyValkey, catch_error, fill
from tests.support.processes import Valkey
from tests.support.waiting import until
from worker.group.consumer_group import ConsumerGroup
from worker.group.group_ref import GroupRef

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def site(own_valkey: Valkey, shard: Shard, tmp_path: Path) -> AsyncIterator[FaultyValkey]:
    """It, with a stream of one entry and the group `g`."""
    server = client(own_valkey.url)
    await ConsumerGroup(GroupRef(server, shard, "g")).ensure()
    await server.xadd(shard.stream, {"n": "1"})
    yield FaultyValkey(server, own_valkey.url, tmp_path / "valkey", shard)
    await server.aclose()


async def read(url: str, shard: Shard, *, block: int | None = None) -> Any:
    """Do what a worker does first, on new connections."""
    reader = client(url, reply_seconds=0.5)
    try:
        await require_commands(reader, ["XREADGROUP"])
        return await reader.xreadgroup("g", "c", {shard.stream: ">"}, count=1, block=block)
    finally:
        await reader.aclose()


@pytest.mark.parametrize("name", FAULTS)
async def test_every_fault_of_a_server_is_known(site: FaultyValkey, name: str) -> None:
    """A reader names each fault by its meaning, and reads again after the fault."""
    expected, run_fault = FAULTS[name]
    async with run_fault(site):
        exc = await catch_error(read(site.url, site.shard))
        judged = UNSUPPORTED if isinstance(exc, ServerUnfit) else identify_fault(exc)
    assert (judged, len(await read(site.url, site.shard))) == (expected, 1)


async def test_a_full_server_is_told_by_a_write(site: FaultyValkey) -> None:
    """A write is refused, a group is read all the same."""
    async with fill(site):
        assert identify_fault(await catch_error(site.server.xadd(site.shard.stream, {"n": "2"}))) is FULL
        assert len(await read(site.url, site.shard)) == 1


@pytest.mark.parametrize("command", ["XGROUP DESTROY", "DEL", "FLUSHALL", "FLUSHDB"])
@pytest.mark.parametrize("block", [None, 60_000])
async def test_a_group_that_is_gone_is_told(site: FaultyValkey, command: str, block: int | None) -> None:
    """A read that starts later or waits already notices that the group, the stream or all keys are gone."""
    await read(site.url, site.shard)
    words = {"XGROUP DESTROY": (site.shard.stream, "g"), "DEL": (site.shard.stream,)}.get(command, ())
    reader = client(site.url)
    if block is None:
        await site.run_command(command, *words)
    reading: Any = reader.xreadgroup("g", "c", {site.shard.stream: ">"}, block=block)
    waiting = asyncio.ensure_future(catch_error(reading))
    if block is not None:
        await until(lambda: is_blocked(site))
        await site.run_command(command, *words)
    assert identify_fault(await waiting) is GONE
    await reader.aclose()


async def is_blocked(site: FaultyValkey) -> bool:
    return int((await site.server.info("clients"))["blocked_clients"]) > 0


async def test_a_read_that_waits_ends_when_its_server_is_deposed(site: FaultyValkey) -> None:
    """The wait ends at once; after the server has closed that connection, a command gets the reason."""
    await read(site.url, site.shard)
    reader = client(site.url)
    reading: Any = reader.xreadgroup("g", "c", {site.shard.stream: ">"}, block=60_000)
    waiting = asyncio.ensure_future(catch_error(reading))
    await until(lambda: is_blocked(site))
    await site.run_command("REPLICAOF", "127.0.0.1", 1)
    assert identify_fault(await waiting) is GONE

    async def told() -> bool:
        return isinstance(await catch_error(reader.xack(site.shard.stream, "g", "1-0")), Deposed)

    await until(told)
    await reader.aclose()


async def test_a_deposed_server_s_connection_is_not_used_again(site: FaultyValkey) -> None:
    """After READONLY the connection is closed, and the next command connects again, to the primary of that time."""
    reader = client(site.url)
    before = await reader.client_id()
    await site.run_command("REPLICAOF", "127.0.0.1", 1)
    assert isinstance(await catch_error(reader.set("a", "b")), Deposed)
    await site.run_command("REPLICAOF", "NO", "ONE")
    assert await reader.client_id() != before
    await reader.aclose()


async def test_a_stale_replica_is_no_primary(site: FaultyValkey) -> None:
    """MASTERDOWN, to a reading command, means the same as READONLY."""
    await site.run_command("CONFIG SET", "replica-serve-stale-data", "no")
    await site.run_command("REPLICAOF", "127.0.0.1", 1)
    assert isinstance(await catch_error(site.server.xlen(site.shard.stream)), Deposed)


async def test_an_unknown_user_is_denied(site: FaultyValkey) -> None:
    """A missing password, and one that the server does not ask for, are reported like a wrong one."""
    nobody = client(site.url.replace(site.url.partition("://")[2].partition("@")[0] + "@", ""))
    assert identify_fault(await catch_error(nobody.ping())) is DENIED
    await nobody.aclose()
    await site.run_command("CONFIG SET", "requirepass", "")
    too_much = client(site.url)
    assert identify_fault(await catch_error(too_much.ping())) is DENIED
    await too_much.aclose()


async def test_a_server_that_loads_its_data_is_told_from_one_that_is_away(
    own_valkey: Valkey, site: FaultyValkey
) -> None:
    """Away: refused, and cut off in the middle. Loading: there, but not yet. Each is quoted in its own words."""
    reading: Any = site.server.xreadgroup("none", "c", {site.shard.stream: ">"}, block=60_000)
    await site.server.xgroup_create(site.shard.stream, "none", "$")
    for _ in range(3000):
        await site.server.incr("loaded")
    waiting = asyncio.ensure_future(catch_error(reading))
    await until(lambda: is_blocked(site))
    own_valkey.kill()
    assert identify_fault(await waiting) is AWAY
    refused = await catch_error(site.server.ping())
    assert (identify_fault(refused), quote_reason(refused)) == (AWAY, "Connection refused")
    with (site.folder / "valkey.conf").open("a") as config:
        config.write("key-load-delay 1000\n")
    starting = asyncio.ensure_future(own_valkey.start())

    async def loads() -> bool:
        try:
            await site.server.ping()
        except RedisError as exc:
            return identify_fault(exc) is LOADING and quote_reason(exc).startswith("LOADING ")
        return False

    await until(loads)
    await starting


async def test_a_node_of_a_cluster_is_told(tmp_path: Path, own_valkey: Valkey, shard: Shard) -> None:
    """Keys of several slots, or of a slot that nobody serves: a cluster, which this version does not do."""
    own_valkey.kill()
    with (tmp_path / "valkey" / "valkey.conf").open("a") as config:
        config.write(
            f"appendonly no\ncluster-enabled yes\ncluster-port {find_free_port()}\n"
        )  # else 10000 above its own
    await own_valkey.start()
    node = client(own_valkey.url)
    assert identify_fault(await catch_error(node.get(shard.stream))) is CLUSTER
    assert identify_fault(await catch_error(node.mget("a", "b"))) is CLUSTER
    await node.aclose()


@pytest.mark.parametrize("reply", ["MOVED 3999 127.0.0.1:7001", "ASK 3999 127.0.0.1:7001", "TRYAGAIN Multiple keys"])
def test_redirections_are_those_of_a_cluster(reply: str) -> None:
    """redis-py's error for a redirection is the fault of a cluster, and is quoted as it came."""
    parse: Any = BaseParser.parse_error
    assert (identify_fault(parse(reply)), quote_reason(parse(reply))) == (CLUSTER, reply)


async def test_a_transaction_that_was_refused_is_tried_again(server: Redis) -> None:
    """EXECABORT says that a command of it was refused before; nothing has run."""
    pool: Any = server.connection_pool
    connection = await pool.get_connection()
    for words in (("MULTI",), ("SET",)):
        await connection.send_command(*words)
        if words == ("MULTI",):
            await connection.read_response()
        else:
            await catch_error(connection.read_response())
    await connection.send_command("EXEC")
    exc = await catch_error(connection.read_response())
    assert (type(exc), identify_fault(exc)) == (ExecAbortError, BUSY)
    await pool.release(connection)


async def test_a_command_that_is_not_known_is_an_error_of_its_own(server: Redis) -> None:
    """An error that this version does not know counts as unknown, and is logged as an error."""
    do: Any = server.execute_command
    exc = await catch_error(do("XFUTURE"))
    assert (identify_fault(exc), UNKNOWN.passing) == (UNKNOWN, False)


async def test_sentinels_that_are_away_name_nobody() -> None:
    """The trouble is the sentinels', not the server's."""
    nowhere = client("redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster")
    assert identify_fault(await catch_error(nowhere.ping())) is NO_PRIMARY
    await nowhere.aclose()


async def test_a_command_has_a_limit_of_its_own(site: FaultyValkey) -> None:
    """A command ends even if the limit of its reply never comes."""
    patient = client(site.url, reply_seconds=60)
    await patient.ping()
    patient.limit_seconds = 0.2  # type: ignore[attr-defined]
    await site.run_command("CLIENT PAUSE", 1000, "ALL")
    assert identify_fault(await catch_error(patient.ping())) is SILENT
    patient.limit_seconds = 60.0  # type: ignore[attr-defined]
    assert await patient.ping()
    await patient.aclose()


async def test_another_service_on_the_port_is_told() -> None:
    """A server of HTTP answers in another protocol: the address is wrong."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as foreign:
        server = client(f"redis://127.0.0.1:{foreign.sockets[0].getsockname()[1]}")
        assert identify_fault(await catch_error(server.ping())) is FOREIGN
        await server.aclose()


def test_every_kind_of_trouble_has_a_name_of_its_own_and_is_explained() -> None:
    """Each fault has its own name and meaning, and docs/redis-errors.md has the next step of each."""
    kinds = [kind for kind in vars(stream.redis.errors).values() if isinstance(kind, RedisFault)]
    assert len({kind.name for kind in kinds}) == len({kind.meaning for kind in kinds}) == len(kinds)
    explained = re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs" / "redis-errors.md").read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(kind.name for kind in kinds)
