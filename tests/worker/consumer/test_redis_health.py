import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError

from stream.keys import Shard
from stream.redis.client import ServerUnfit
from stream.redis.errors import AWAY, FULL, GONE, UNSUPPORTED, GroupGone, Stalled
from tests.support.fake_clock import FakeClock
from tests.support.in_process import working
from tests.support.samples.events import body
from tests.support.streams.settled import append_payloads, is_settled
from tests.support.waiting import until
from worker.consumer import redis_health as condition
from worker.consumer.redis_health import SLOW_SECONDS, RedisHealth
from worker.metrics import REDIS_FAULTS


async def never() -> None:
    await asyncio.Event().wait()


def words(one: RedisHealth) -> str | None:
    return one.not_ready_reason


async def test_it_is_told_in_words_until_it_is_well() -> None:
    """Before the first read, in trouble, and well again."""
    one = RedisHealth("g", ())
    assert words(one) == "group g: starting"
    one.mark_healthy()
    assert words(one) is None
    assert await one.record_failure(OutOfMemoryError("OOM")) is FULL
    assert words(one) == f"group g: {FULL.meaning}"
    one.mark_healthy()
    assert words(one) is None


async def test_a_read_that_takes_too_long_is_told_before_it_is_given_up() -> None:
    """`/ready` does not wait for the end of a wait that should have ended."""
    clock = FakeClock()
    one = RedisHealth("g", (), clock)
    one.mark_healthy()
    reading = asyncio.ensure_future(never())
    waiting = asyncio.ensure_future(one.wait_for(reading))
    await asyncio.sleep(0)
    assert words(one) is None
    clock.now += SLOW_SECONDS + 1
    assert words(one) == "group g: no answer from Redis for 11 s"
    await one.abandon(reading)
    assert reading.cancelled()
    await asyncio.wait([waiting])


async def test_a_read_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it hangs in, and even if it cannot be cancelled."""
    monkeypatch.setattr(condition, "STALLED_SECONDS", 0.05)
    one = RedisHealth("g", ())
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    reading = asyncio.ensure_future(stubborn())
    with pytest.raises(Stalled):
        await one.wait_for(reading)
    await one.abandon(reading)
    assert not reading.done()
    release.set()
    await reading


async def test_what_the_upkeep_saw_ends_the_reading() -> None:
    """A read may find nothing wrong in a group that stands beyond its stream: the upkeep does."""
    one = RedisHealth("g", ())
    one.mark_healthy()
    one.record_upkeep_error(ResponseError("WRONGTYPE"))
    await one.wait_for(asyncio.ensure_future(asyncio.sleep(0)))
    one.record_upkeep_error(GroupGone())
    with pytest.raises(GroupGone):
        await one.wait_for(asyncio.ensure_future(asyncio.sleep(0)))
    assert await one.record_failure(GroupGone()) is GONE
    one.mark_healthy()
    await one.wait_for(asyncio.ensure_future(asyncio.sleep(0)))


async def test_a_server_is_unfit_at_the_start_only() -> None:
    """Then the process says so and ends; a server that changes under a running worker is waited for."""
    one = RedisHealth("g", ())
    with pytest.raises(ServerUnfit):
        await one.record_failure(ServerUnfit("no XADD"))
    one.mark_healthy()
    assert await one.record_failure(ServerUnfit("no XADD")) is UNSUPPORTED


async def test_connections_that_cannot_be_trusted_are_not_used_again(server: Redis) -> None:
    """After a lost connection the idle ones go too; after an error reply they stay."""
    one = RedisHealth("g", (server,))
    before = await server.client_id()
    await one.record_failure(OutOfMemoryError("OOM"))
    assert await server.client_id() == before
    assert await one.record_failure(RedisConnectionError("Connection reset by peer")) is AWAY
    assert await server.client_id() != before


async def test_a_worker_whose_reads_stall_begins_again(
    valkey_url: str, server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts and waits; once reads end in time, it does its work."""
    stalls = REDIS_FAULTS.labels("log", "stalled")
    before: Any = stalls._value.get()  # noqa: SLF001 - the library's tests do so
    with monkeypatch.context() as patched:
        patched.setattr(condition, "STALLED_SECONDS", 0.01)  # less than BLOCK
        async with working(redis_url=valkey_url, stream=shard.name, handlers="log"):
            await until(lambda: _grown(stalls, before + 2))
            patched.undo()
            await append_payloads(server, shard, body())
            await until(lambda: is_settled(server, shard, "log"))


async def _grown(counter: Any, value: float) -> bool:
    return bool(counter._value.get() >= value)  # noqa: SLF001 - likewise
