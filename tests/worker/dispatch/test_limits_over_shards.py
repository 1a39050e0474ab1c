"""The limits of a group that has several shards."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis

from console.queries.shards import set_shards
from stream.keys import Shard
from stream.settings import StreamSettings
from stream.shard_watch import watch_shards
from tests.support.samples.events import body
from tests.support.streams.settled import append_payloads
from tests.support.waiting import until
from worker.dispatch.backlog import Backlog
from worker.dispatch.call import Limits
from worker.dispatch.circuit_breaker import FEW_CALLS
from worker.dispatch.pause import Pause, PauseReason, read_pause_reason
from worker.events.event import StatusEvent
from worker.group.group_ref import GroupRef
from worker.handler_loader import LoadedHandler
from worker.settings import WorkerSettings
from worker.settle.retry_policy import RetryPolicy
from worker.timing import TIMING
from worker.wiring import make_consumers


async def add_dead(server: Redis, shard: Shard, letters: int) -> None:
    for _ in range(letters):
        fields: Any = {b"payload": b"x" * 1000}
        await server.xadd(shard.dead("g"), fields)


async def read_reason(pause: Pause) -> str | None:
    await pause.refresh()
    return pause.reason


async def test_dead_letters_and_bytes_of_all_shards_count(server: Redis, shard: Shard) -> None:
    """The group is paused at the sum of its dead letters, and its backlog is the sum of their bytes."""
    shards = [Shard(shard.name, number) for number in range(2)]
    home = GroupRef(server, shards[0], "g")
    pause, backlog = Pause(home, 4, shards=shards), Backlog(home, shards=shards)
    await add_dead(server, shards[0], 1)
    await add_dead(server, shards[1], 2)
    assert await read_reason(pause) is None

    await add_dead(server, shards[1], 3)
    assert await read_reason(pause) == PauseReason.DEAD_LETTERS
    assert await server.exists(shards[0].paused("g"), shards[1].paused("g")) == 1

    parts = [Backlog(GroupRef(server, each, "g")) for each in shards]
    for each in (backlog, *parts):
        await each.measure()
    assert backlog.bytes == sum(part.bytes for part in parts)
    assert all(part.bytes for part in parts)

    await server.delete(shards[1].dead("g"))
    assert await read_reason(pause) is None


class Failing:
    """A handler whose target refuses each event."""

    def alone(self, _event: StatusEvent) -> bool:
        """Take each event alone."""
        return True

    async def handle(self, _events: Sequence[StatusEvent]) -> None:
        """Fail."""
        raise RuntimeError


async def test_failures_on_all_shards_open_one_circuit_breaker(valkey_url: str, server: Redis, shard: Shard) -> None:
    """A group pauses when too many calls fail, although each of its shards has too few of them."""
    shards = [Shard(shard.name, number) for number in range(3)]
    await set_shards(server, StreamSettings(stream=shard.name), len(shards))
    for each in shards:
        await append_payloads(server, each, *(body(message_uuid=f"m-{number}") for number in range(FEW_CALLS // 2)))
    settings = WorkerSettings.load(redis_url=valkey_url, stream=shard.name)
    failing = LoadedHandler(Failing(), Limits(), RetryPolicy(base_seconds=3600, cap_seconds=3600))
    timing, stop = replace(TIMING, trip=0.0, window=3600.0), asyncio.Event()
    home = GroupRef(server, shard, "g")

    async def is_paused() -> bool:
        return await read_pause_reason(home) == PauseReason.FAILING

    async with watch_shards(server, settings, stop) as watch, asyncio.TaskGroup() as tasks:
        consumers = make_consumers((server, server), settings, {"g": failing}, watch, stop, timing)
        tasks.create_task(consumers.run(watch, stop, 1.0))
        try:
            await until(is_paused)
        finally:
            stop.set()
