"""The number of shards in Redis, and the processes that follow it."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError
from structlog.testing import capture_logs

from runtime.errors import CommandError
from stream.keys import Shard
from stream.layout import Layout, change_layout, read_layout
from stream.redis.client import client
from stream.settings import StreamSettings
from stream.shard_watch import ShardWatch
from tests.support.servers.redis_users import ACL_FILE, add_user


async def test_the_number_in_redis_counts(server: Redis, shard: Shard) -> None:
    """The first process writes its number; one with another number uses that of Redis, and warns once."""
    settings = [StreamSettings(stream=shard.name, shards=number) for number in (2, 3)]
    first, second = (ShardWatch(server, each) for each in settings)
    assert await read_layout(server, settings[1]) == Layout()

    with capture_logs() as logs:
        for watch in (first, second, second):
            await watch.refresh()

    assert first.layout == second.layout
    assert (second.layout.used, [each.number for each in second.shards]) == (2, [0, 1])
    assert [(line["event"], line["setting"], line["in_use"]) for line in logs] == [("shards.differ", 3, 2)]


async def test_a_change_starts_what_the_new_shards_need(server: Redis, shard: Shard) -> None:
    """Each new shard is started once, also one that is out of use again when the process notices."""
    settings = StreamSettings(stream=shard.name)
    watch, started = ShardWatch(server, settings), list[int]()
    with watch.start_each(lambda each: started.append(each.number)):
        await watch.refresh()
        await change_layout(server, settings, 4)
        await change_layout(server, settings, 2)
        await watch.refresh()
        await watch.refresh()
    await change_layout(server, settings, 5)
    await watch.refresh()

    assert started == [0, 1, 2, 3]
    assert (watch.layout.used, watch.layout.known, len(watch.shards)) == (5, 5, 5)


async def test_a_process_keeps_the_shards_known_that_it_reads(server: Redis, shard: Shard) -> None:
    """After Redis has lost the key, a process that reads more shards than the settings say writes them again."""
    settings = StreamSettings(stream=shard.name)
    watch = ShardWatch(server, settings)
    await change_layout(server, settings, 3)
    await watch.refresh()
    await server.delete(shard.layout)
    await watch.refresh()

    layout = await read_layout(server, settings)
    assert (layout.used, layout.known) == (1, 3)
    assert watch.layout == layout


async def test_a_change_of_the_number_is_never_reverted(server: Redis, shard: Shard) -> None:
    """A process that writes that its shards are known keeps a number that a person has set since it read the key."""
    settings, other = StreamSettings(stream=shard.name), Overtaken(connection_pool=server.connection_pool)
    watch = ShardWatch(other, settings)
    await change_layout(server, settings, 3)
    await watch.refresh()
    await server.delete(shard.layout)
    await ShardWatch(server, settings).refresh()
    other.change = lambda: change_layout(server, settings, 2)
    await watch.refresh()

    layout = await read_layout(server, settings)
    assert (layout.used, layout.known) == (2, 3)


class Overtaken(Redis):
    """A client that gets the second reply of GET only after ``change``, as if another process had been faster."""

    change: Callable[[], Awaitable[object]] | None = None
    replies = 0

    async def get(self, name: Any) -> Any:
        """Return the value of before the change."""
        value = await super().get(name)
        self.replies += self.change is not None
        if self.change is not None and self.replies == 2:
            await self.change()
        return value


async def test_the_example_user_of_ingest_keeps_its_shards_known(server: Redis, valkey_url: str, shard: Shard) -> None:
    """Ingest may write the key again, so that workers read what it has appended to the other shards."""
    [rules] = [line.split()[4:] for line in ACL_FILE.splitlines() if line.startswith("user ingest")]
    rules = [rule.replace("vonage:status", shard.name) for rule in rules]
    settings = StreamSettings(stream=shard.name)
    await change_layout(server, settings, 3)
    async with client(await add_user(server, valkey_url, f"{shard.name}-ingest", *rules)) as ingest:
        watch = ShardWatch(ingest, settings)
        await watch.refresh()
        await server.delete(shard.layout)
        await watch.refresh()

    assert (await read_layout(server, settings)).known == 3
    assert watch.layout.used == 1


async def test_ingest_without_the_right_has_one_shard(server: Redis, valkey_url: str, shard: Shard) -> None:
    """Ingest logs the missing right once, and appends to shard 0, which every worker reads."""
    url = await add_user(server, valkey_url, f"{shard.name}-old", f"~{shard.stream}", "+xadd", "+get", "+setnx")
    async with client(url) as old:
        watch = ShardWatch(old, StreamSettings(stream=shard.name))
        with capture_logs() as logs:
            await watch.refresh()
            await watch.refresh()

    assert [(line["event"], line["log_level"]) for line in logs] == [("shards.denied", "warning")]
    assert watch.layout.used == 1


async def test_a_worker_without_the_right_reads_nothing(server: Redis, valkey_url: str, shard: Shard) -> None:
    """A worker would miss entries of other shards, so it raises the error again and again, and logs the next step once.

    With the right to read alone it reads all shards, also if it may not write the key.
    """
    settings, name = StreamSettings(stream=shard.name), f"{shard.name}-worker"
    await change_layout(server, settings, 3)
    url = await add_user(server, valkey_url, name, f"~{shard.stream}", "+get")
    async with client(url) as old:
        watch = ShardWatch(old, settings, reads=True)
        with capture_logs() as logs:
            for _ in range(2):
                with pytest.raises(NoPermissionError):
                    await watch.refresh()
    await add_user(server, valkey_url, name, f"~{shard.layout}")
    async with client(url) as reader:
        allowed = ShardWatch(reader, settings, reads=True)
        await allowed.refresh()
        await server.delete(shard.layout)
        await allowed.refresh()

    assert [(line["event"], line["log_level"]) for line in logs] == [("shards.denied", "error")]
    assert "deploy/redis-users.acl" in logs[0]["what"]
    assert len(allowed.shards) == 3


async def test_a_console_without_the_right_ends(server: Redis, valkey_url: str, shard: Shard) -> None:
    """A console without the right would show shard 0 only, so it ends; the error names the key and the next step."""
    url = await add_user(server, valkey_url, f"{shard.name}-console", f"~{shard.stream}", "+get")
    async with client(url) as old:
        watch = ShardWatch(old, StreamSettings(stream=shard.name), creates=False, reads=True)
        with pytest.raises(CommandError, match=f"{re.escape(shard.layout)}: give this user the rights of"):
            await watch.run(asyncio.Event())
