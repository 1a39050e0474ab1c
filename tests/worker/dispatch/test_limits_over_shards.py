"""The limits of a group that has several shards."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis

from console.queries.shards import set_shards
from stream.keys import Shard
from stream.settings import StreamSettings
from tests.support.in_process import run_group
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
from worker.settle.retry_policy import RetryPolicy
from worker.timing import TIMING


async def add_dead(server: Redis, shard: Shard, letters: int) -> None:
    for _ in range(letters):
        fields: Any = {b"payload": b"x" * 1000}
        await server.xadd(shard.dead("g"), fields)


async def read_reason(pause: Pause) -> str | None:
    await pause.refresh()
    return pause.reason


async def test_dead_letters_and_bytes_of_all_shards_count(server: Redis, shard: Shard) -> None:
    """The group is paused at the sum of its dead letters, and its backlog is the sum of their bytes.

    Shards that are not measured keep their size.
    """
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
    await add_dead(server, shards[0], 2)
    await add_dead(server, shards[1], 2)
    await backlog.measure(shards[0])
    await parts[0].measure()
    assert backlog.bytes == sum(part.bytes for part in parts)

    await server.delete(shards[1].dead("g"))
    assert await read_reason(pause) is None


class Failing:
    """A handler whose target refuses each event. ``checks`` has the task of each check of the target."""

    def __init__(self) -> None:
        self.checks: list[asyncio.Task[Any] | None] = []

    def alone(self, _event: StatusEvent) -> bool:
        """Take each event alone."""
        return True

    async def handle(self, _events: Sequence[StatusEvent]) -> None:
        """Fail."""
        raise RuntimeError

    async def check(self) -> None:
        """Say that the target is there."""
        self.checks.append(asyncio.current_task())


async def test_failures_on_all_shards_open_one_circuit_breaker(valkey_url: str, server: Redis, shard: Shard) -> None:
    """A group pauses when too many calls fail, although each of its shards has too few of them."""
    shards = [Shard(shard.name, number) for number in range(3)]
    await set_shards(server, StreamSettings(stream=shard.name), len(shards))
    for each in shards:
        await append_payloads(server, each, *(body(message_uuid=f"m-{number}") for number in range(FEW_CALLS // 2)))
    failing = LoadedHandler(Failing(), Limits(), RetryPolicy(base_seconds=3600, cap_seconds=3600))
    home = GroupRef(server, shard, "g")

    async def is_paused() -> bool:
        return await read_pause_reason(home) == PauseReason.FAILING

    async with run_group(server, valkey_url, shard, failing, replace(TIMING, trip=0.0, window=3600.0)):
        await until(is_paused)


async def test_one_shard_checks_the_target_for_all(valkey_url: str, server: Redis, shard: Shard) -> None:
    """The check of a quiet group makes the group ready on all shards; the number of shards adds no checks."""
    await set_shards(server, StreamSettings(stream=shard.name), 3)
    failing = Failing()
    loaded = LoadedHandler(failing, Limits(), RetryPolicy(), check=failing.check)

    async def is_ready() -> bool:
        is_on_last = await server.exists(Shard(shard.name, 2).alive("g")) == 1
        return is_on_last and len(failing.checks) >= 100 and consumers.not_ready_reason is None

    async with run_group(server, valkey_url, shard, loaded, replace(TIMING, check=0.01, quiet=0.0)) as consumers:
        await until(is_ready)

    assert len(set(failing.checks)) == 1
