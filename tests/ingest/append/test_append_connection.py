"""The connection that appends: pipelined batches, replies in order, and never one reply for another's batch."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvloop
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoPermissionError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ingest.append.connection import AppendConnection
from ingest.encoding import pack
from stream.keys import Shard
from stream.redis.client import client
from tests.support.samples.events import body, entry
from tests.support.servers.proxy import run_proxy, through
from tests.support.streams.watched import turns_of
from tests.support.waiting import PATIENCE_SECONDS

BATCH = [pack(entry(body()))[1]]


@pytest.fixture
async def connection(valkey_url: str, shard: Shard) -> AsyncIterator[AppendConnection]:
    """A connection that has been open for longer than redis-py lets one be without asking for its health."""
    user = client(valkey_url)
    user.connection_pool.connection_kwargs["health_check_interval"] = 0.001
    connection = await AppendConnection.open(user, turns_of(user, shard))
    yield connection
    await connection.close()
    await user.aclose()


async def connections(server: Redis) -> int:
    """How many were made so far."""
    stats: Any = await server.info("stats")
    return int(stats["total_connections_received"])


async def test_appends_need_no_connection_beside_their_own(
    server: Redis, connection: AppendConnection, shard: Shard
) -> None:
    """Two at a time, however long it has been open; each returns when its batch is on the stream."""
    before = await connections(server)
    for number in range(1, 51):
        await asyncio.gather(connection.append(BATCH, 5), connection.append(BATCH, 5))
        assert await server.xlen(shard.stream) == 2 * number
    assert await connections(server) == before


async def test_a_server_that_forgot_its_scripts_is_told_again(
    server: Redis, connection: AppendConnection, shard: Shard
) -> None:
    """After SCRIPT FLUSH overlapping batches are appended once each."""
    await server.script_flush()
    await asyncio.gather(*(connection.append(BATCH, 5) for _ in range(3)))
    assert await server.xlen(shard.stream) == 3


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_process_that_was_paused_reads_the_reply_first(
    valkey_url: str, shard: Shard, make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """If the whole process is paused for longer than the limit, a reply that has arrived confirms the batch."""

    async def append() -> None:
        user = client(valkey_url)
        connection = await AppendConnection.open(user, turns_of(user, shard))
        appending = asyncio.create_task(connection.append(BATCH, 0.2))
        for _ in range(10):
            await asyncio.sleep(0)
        pause_process(valkey_url, shard)
        try:
            await appending
        finally:
            await connection.close()
            await user.aclose()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(append())


def pause_process(url: str, shard: Shard) -> None:
    """Block the event loop for at least half a second, until the stream has an entry."""
    started = time.monotonic()
    with BlockingRedis.from_url(url) as server:
        while time.monotonic() - started < 0.5 or not server.xlen(shard.stream):
            assert time.monotonic() - started < PATIENCE_SECONDS
            time.sleep(0.05)


async def test_a_cancelled_append_takes_no_other_batch_s_reply(valkey_url: str, shard: Shard) -> None:
    """Cancelled after any step, the connection is closed; the other batch is confirmed by its own reply or fails."""
    user = client(valkey_url)
    await (await AppendConnection.open(user, turns_of(user, shard))).close()  # the script is loaded
    for steps in range(1, 30):
        opened = await AppendConnection.open(user, turns_of(user, shard))
        cancelled = asyncio.create_task(opened.append(BATCH, 5))
        second = asyncio.create_task(opened.append(BATCH * 7, 5))
        for _ in range(steps):
            await asyncio.sleep(0)
        if cancelled.done():
            await second
            await opened.close()
            continue
        cancelled.cancel()
        await asyncio.wait([cancelled, second])
        assert cancelled.cancelled()
        assert second.exception() is None or isinstance(second.exception(), RedisConnectionError)
        with pytest.raises(RedisConnectionError):
            await opened.append(BATCH, 5)
    await user.aclose()


async def test_a_reply_that_is_late_closes_the_connection(valkey_url: str, shard: Shard) -> None:
    """The batch times out, and so does each that waits behind it; none is ever confirmed by the late reply."""
    async with run_proxy(urlsplit(valkey_url).port or 0) as proxy:
        user = client(through(proxy, valkey_url))
        opened = await AppendConnection.open(user, turns_of(user, shard))
        proxy.swallows_replies = True
        first, second = await asyncio.gather(opened.append(BATCH, 0.1), opened.append(BATCH, 5), return_exceptions=True)
        assert isinstance(first, RedisTimeoutError)
        assert isinstance(second, RedisConnectionError)
        assert opened.is_closed
        await user.aclose()


async def test_a_reply_that_is_not_the_number_of_entries_is_no_confirmation(
    server: Redis, valkey_url: str, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something between us and Redis that answers everything with OK or 1 is not believed."""
    monkeypatch.setattr("ingest.append.connection.APPEND", "return 1")
    user = client(valkey_url)
    opened = await AppendConnection.open(user, turns_of(user, shard))
    with pytest.raises(InvalidResponse):
        await opened.append(BATCH * 2, 5)
    assert await server.xlen(shard.stream) == 0
    await user.aclose()


async def test_an_empty_batch_tries_whether_an_append_is_allowed(
    server: Redis, connection: AppendConnection, shard: Shard
) -> None:
    """It appends nothing, and does not make the stream."""
    await connection.append((), 5)
    assert not await server.exists(shard.stream)
    await connection.append(BATCH, 5)
    await connection.append((), 5)
    assert await server.xlen(shard.stream) == 1


async def test_an_empty_batch_meets_what_an_append_would_meet(
    server: Redis, valkey_url: str, shard: Shard, connection: AppendConnection
) -> None:
    """A key of another type, and a user without the right to append."""
    await server.set(shard.stream, "no stream")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await connection.append((), 5)
    await server.delete(shard.stream)
    rights = ("+evalsha", "+script|load", "+ping", f"~{shard.name}:*")
    name = f"{shard.name}-few"
    await server.execute_command("ACL", "SETUSER", name, "on", ">secret", *rights)  # type: ignore[no-untyped-call]
    user = client(f"redis://{name}:secret@127.0.0.1:{urlsplit(valkey_url).port}")
    opened = await AppendConnection.open(user, turns_of(user, shard))
    with pytest.raises((NoPermissionError, ResponseError), match=r"(?i)acl|permission"):
        await opened.append((), 5)
    await user.aclose()
