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
from tests.support.in_process import run_worker
from tests.support.samples.events import body
from tests.support.streams.settled import append_payloads, is_settled
from tests.support.waiting import until
from worker.consumer import redis_health as condition
from worker.consumer.redis_health import SLOW_SECONDS, RedisHealth
from worker.metrics import REDIS_FAULTS


async def never() -> None:
    await asyncio.Event().wait()


def words(health: RedisHealth) -> str | None:
    return health.not_ready_reason


async def test_the_reason_is_given_until_it_is_healthy() -> None:
    """The reason names the start and a fault of Redis, and is None once the consumer is healthy."""
    health = RedisHealth("g", ())
    assert words(health) == "group g: starting"
    health.mark_healthy()
    assert words(health) is None
    assert await health.record_failure(OutOfMemoryError("OOM")) is FULL
    assert words(health) == f"group g: {FULL.meaning}"
    health.mark_healthy()
    assert words(health) is None


async def test_a_late_read_is_reported_before_it_is_abandoned() -> None:
    """`/ready` reports a late read before it is abandoned."""
    clock = FakeClock()
    health = RedisHealth("g", (), clock)
    health.mark_healthy()
    reading = asyncio.ensure_future(never())
    waiting = asyncio.ensure_future(health.wait_for(reading))
    await asyncio.sleep(0)
    assert words(health) is None
    clock.now += SLOW_SECONDS + 1
    assert words(health) == "group g: no answer from Redis for 11 s"
    await health.abandon(reading)
    assert reading.cancelled()
    await asyncio.wait([waiting])


async def test_a_read_that_never_ends_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that never ends raises Stalled, even if it ignores its cancellation."""
    monkeypatch.setattr(condition, "STALLED_SECONDS", 0.05)
    health = RedisHealth("g", ())
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    reading = asyncio.ensure_future(stubborn())
    with pytest.raises(Stalled):
        await health.wait_for(reading)
    await health.abandon(reading)
    assert not reading.done()
    release.set()
    await reading


async def test_an_error_of_the_upkeep_ends_the_read() -> None:
    """The next read raises GroupGone if the upkeep found the group beyond its stream."""
    health = RedisHealth("g", ())
    health.mark_healthy()
    health.record_upkeep_error(ResponseError("WRONGTYPE"))
    await health.wait_for(asyncio.ensure_future(asyncio.sleep(0)))
    health.record_upkeep_error(GroupGone())
    with pytest.raises(GroupGone):
        await health.wait_for(asyncio.ensure_future(asyncio.sleep(0)))
    assert await health.record_failure(GroupGone()) is GONE
    health.mark_healthy()
    await health.wait_for(asyncio.ensure_future(asyncio.sleep(0)))


async def test_an_unfit_server_ends_the_process_only_at_the_start() -> None:
    """At the start an unfit server ends the process; later the worker waits for a fit health."""
    health = RedisHealth("g", ())
    with pytest.raises(ServerUnfit):
        await health.record_failure(ServerUnfit("no XADD"))
    health.mark_healthy()
    assert await health.record_failure(ServerUnfit("no XADD")) is UNSUPPORTED


async def test_broken_connections_are_not_used_again(server: Redis) -> None:
    """A lost connection closes the idle ones too; an error reply closes none."""
    health = RedisHealth("g", (server,))
    before = await server.client_id()
    await health.record_failure(OutOfMemoryError("OOM"))
    assert await server.client_id() == before
    assert await health.record_failure(RedisConnectionError("Connection reset by peer")) is AWAY
    assert await server.client_id() != before


async def test_a_worker_whose_reads_stall_starts_again(
    valkey_url: str, server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose reads stall counts the fault and retries; once reads end, it handles entries."""
    stalls = REDIS_FAULTS.labels("log", "stalled")
    before: Any = stalls._value.get()  # noqa: SLF001 - redis-py's own tests do the same
    with monkeypatch.context() as patched:
        patched.setattr(condition, "STALLED_SECONDS", 0.01)  # less than BLOCK
        async with run_worker(redis_url=valkey_url, stream=shard.name, handlers="log"):
            await until(lambda: _grown(stalls, before + 2))
            patched.undo()
            await append_payloads(server, shard, body())
            await until(lambda: is_settled(server, shard, "log"))


async def _grown(counter: Any, value: float) -> bool:
    return bool(counter._value.get() >= value)  # noqa: SLF001 - as above
