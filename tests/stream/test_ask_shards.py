"""Asking all shards of a cluster."""

import asyncio

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.keys import Shard
from stream.redis import cluster
from stream.redis.client import client
from tests.support.waiting import PATIENCE_SECONDS

SHARDS = [Shard("status", number) for number in range(3)]
URL = "redis+cluster://127.0.0.1:1"


async def test_a_shard_that_hangs_delays_the_others_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a shard has answered, `ask_shards` cancels the request to one that does not, and leaves it out."""
    monkeypatch.setattr(cluster, "FURTHER_SECONDS", 0.01)
    asked: list[asyncio.Task[int] | None] = []

    async def ask(shard: Shard) -> int:
        if shard.number == 1:
            asked.append(asyncio.current_task())
            await asyncio.Event().wait()
        return shard.number

    async with client(URL) as server, asyncio.timeout(PATIENCE_SECONDS):
        answers = await cluster.ask_shards(server, SHARDS, ask)

    assert answers == {SHARDS[0]: 0, SHARDS[2]: 2}
    assert [task.cancelled() for task in asked if task is not None] == [True]


async def test_without_any_answer_each_shard_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no shard has answered, a slow one is awaited, although another one is away."""
    monkeypatch.setattr(cluster, "FURTHER_SECONDS", 0.0)

    async def ask(shard: Shard) -> int:
        for _ in range(100 * shard.number):
            await asyncio.sleep(0)
        if shard.number != 2:
            raise RedisTimeoutError
        return shard.number

    async with client(URL) as server, asyncio.timeout(PATIENCE_SECONDS):
        answers = await cluster.ask_shards(server, SHARDS, ask)

    assert answers == {SHARDS[2]: 2}
