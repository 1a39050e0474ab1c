"""The path to Redis: faults that close it, probes, and log lines."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.testing import capture_logs

from ingest.append.connection import EntrySink
from ingest.append.redis_writer import FIRST_SECONDS, LONGEST_SECONDS, REMIND_SECONDS, NotConfirmed, RedisWriter
from ingest.append.server_checks import ServerChecks
from ingest.encoding import pack
from stream.keys import Shard
from tests.support.fake_clock import FakeClock
from tests.support.faults.redis_outages import read_metric
from tests.support.samples.events import body, entry
from tests.support.streams.watched import watch_of

BATCH = [pack(entry(body()))[1]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def writer(server: Redis, shard: Shard, clock: FakeClock) -> AsyncIterator[RedisWriter]:
    """Open for a long time, with the longest delays."""
    writer = RedisWriter(
        server, watch_of(server, shard), ServerChecks(server, "stream"), clock, lambda _least, high: high
    )
    await writer.probe(feed_nothing)
    clock.now += 3600
    yield writer
    await writer.close()


async def feed_nothing(_connection: EntrySink) -> None:
    return


def delay(writer: RedisWriter, clock: FakeClock) -> float:
    """How long the next probe waits from now on."""
    return round(writer._due - clock.now, 6)  # noqa: SLF001 - waiting for it would take seconds


async def test_a_new_one_is_closed_and_probed_at_once(server: Redis, shard: Shard) -> None:
    """Nothing is given to a server that was never tried."""
    writer = RedisWriter(server, watch_of(server, shard), ServerChecks(server, "stream"))
    with pytest.raises(NotConfirmed):
        await writer.append(BATCH, 5)
    async with asyncio.timeout(60):
        await writer.probe(feed_nothing)
    await writer.append(BATCH, 5)
    assert await server.xlen(shard.stream) == 1
    await writer.close()


def test_one_failure_closes_it(writer: RedisWriter, clock: FakeClock) -> None:
    """It knows the fault until it is open again, and the gauges show it."""
    writer.fail(RedisTimeoutError())
    assert (writer.is_open, writer.reason) == (False, "silent")
    assert delay(writer, clock) == FIRST_SECONDS
    assert (read_metric("breaker_state"), read_metric("redis_down", fault="silent")) == (1, 1)


async def test_a_probe_that_succeeds_opens_it(writer: RedisWriter) -> None:
    """The gauges are back at 0."""
    writer.fail(RedisTimeoutError())
    await writer.probe(feed_nothing)
    assert writer.is_open
    assert (read_metric("breaker_state"), read_metric("redis_down", fault="silent")) == (0, 0)


def test_probes_that_fail_are_delayed_longer_up_to_a_limit(writer: RedisWriter, clock: FakeClock) -> None:
    """The delay doubles up to a limit, so that Redis is found again within seconds."""
    delays = []
    for _ in range(7):
        writer.fail(RedisConnectionError())
        delays.append(delay(writer, clock))
        clock.now += delays[-1]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, LONGEST_SECONDS, LONGEST_SECONDS]


async def test_a_server_that_fails_right_after_success_is_tried_less_and_less(
    writer: RedisWriter, clock: FakeClock
) -> None:
    """One that takes the probe and then fails again is not hammered; after a quiet time all is forgotten."""
    delays = []
    for _ in range(6):
        writer.fail(RedisTimeoutError())
        delays.append(delay(writer, clock))
        clock.now += delays[-1]
        await writer.probe(feed_nothing)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, LONGEST_SECONDS]
    clock.now += LONGEST_SECONDS
    writer.fail(RedisTimeoutError())
    assert delay(writer, clock) == FIRST_SECONDS


def test_the_delay_has_jitter(server: Redis, shard: Shard, clock: FakeClock) -> None:
    """Half of it to the whole, so that processes that lost Redis together do not come back together."""
    asked = []

    def least(least: float, high: float) -> float:
        asked.append((least, high))
        return least

    writer = RedisWriter(server, watch_of(server, shard), ServerChecks(server, "stream"), clock, least)
    writer.fail(RedisConnectionError())
    assert asked == [(FIRST_SECONDS / 2, FIRST_SECONDS)]
    assert delay(writer, clock) == FIRST_SECONDS / 2


async def test_a_probe_that_is_given_up_closes_its_connection(server: Redis, shard: Shard) -> None:
    """A connection that is opened while ingest stops is closed."""
    writer = RedisWriter(server, watch_of(server, shard), ServerChecks(server, "stream"))
    fed: asyncio.Future[EntrySink] = asyncio.get_running_loop().create_future()

    async def feed(connection: EntrySink) -> None:
        fed.set_result(connection)
        await asyncio.Event().wait()

    probing = asyncio.create_task(writer.probe(feed))
    connection = await asyncio.wait_for(fed, 60)
    probing.cancel()
    await asyncio.wait([probing])
    assert not writer.is_open
    with pytest.raises(RedisConnectionError):
        await connection.append(BATCH, 5)


async def test_an_idle_connection_that_redis_closes_is_replaced(
    writer: RedisWriter, server: Redis, shard: Shard
) -> None:
    """When Redis has closed an idle connection (`timeout 300`), an append uses a new one; Redis is not away."""
    with capture_logs() as lines:
        for _ in range(3):
            await server.execute_command("CLIENT KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
            await asyncio.gather(*(writer.append(BATCH, 5) for _ in range(2)))
    assert lines == []
    assert writer.is_open
    assert 6 <= await server.xlen(shard.stream) <= 12


def test_a_fault_that_does_not_pass_is_an_error_every_minute(writer: RedisWriter, clock: FakeClock) -> None:
    """A lasting fault is logged again with the number of spooled entries and the next step, a passing one once."""
    with capture_logs() as lines:
        writer.fail(AuthenticationError("WRONGPASS invalid username-password pair"))
        for _ in range(3):
            writer.remind(7)
            writer.fail(AuthenticationError("WRONGPASS invalid username-password pair"))
            clock.now += REMIND_SECONDS
        writer.fail(RedisTimeoutError())
        clock.now += REMIND_SECONDS
        writer.remind(7)
    summary = [(line["log_level"], line["event"], line["why"], line.get("spool_entries")) for line in lines]
    denied = ("error", "redis.down", "denied")
    assert summary == [(*denied, None), (*denied, 7), (*denied, 7), ("warning", "redis.down", "silent", None)]
    assert "password" in lines[0]["what"]
