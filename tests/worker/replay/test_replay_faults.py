"""A replay during a fault of Redis waits and then continues by itself."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from stream.keys import Shard
from tests.support.processes import Valkey
from tests.support.streams.replayed_stream import GROUP, ReplayedStream, run_beside
from tests.support.waiting import until
from worker.replay.job import State


async def test_a_full_server_copies_nothing_but_a_replay_can_be_paused(
    valkey_url: str, server: Redis, shard: Shard
) -> None:
    """A refused step does not move the cursor; with memory again each copy is made once."""
    site = ReplayedStream(valkey_url, server, shard)
    await site.append(range(1, 601))
    replay = await site.start(600, rate=2000)

    async def is_full_for_a_while() -> None:
        await site.has_copied(100)
        await server.config_set("maxmemory", 1)
        try:
            await until(lambda: told(logs, "replay.interrupted"))
            stopped = len(await site.read_copies())
            await site.replays.change_state(replay, State.PAUSED, allowed=[State.RUNNING])
            await site.replays.change_state(replay, State.RUNNING, allowed=[State.PAUSED])
            await asyncio.sleep(0.1)
            assert len(await site.read_copies()) == stopped < 600
        finally:
            await server.config_set("maxmemory", "1gb")
        await site.has(State.DONE)

    with capture_logs() as logs:
        await run_beside([site.make_scheduler()], is_full_for_a_while())
    assert await site.read_copies() == list(range(1, 601))


async def told(logs: list[Any], event: str) -> bool:
    return any(line["event"] == event for line in logs)


async def test_a_replay_survives_a_killed_server(
    own_valkey: Valkey, own_server: tuple[str, Redis], shard: Shard
) -> None:
    """Copies and cursor are both on the server, or neither."""
    site = ReplayedStream(*own_server, shard)
    await site.append(range(1, 1201))
    await site.start(1200, rate=1000)

    async def is_killed_twice() -> None:
        for number in (200, 600):
            await until(lambda number=number: answers(has_copied(site, number)))  # type: ignore[misc]
            own_valkey.kill()
            await own_valkey.start()
        await until(lambda: answers(is_done(site)))

    await run_beside([site.make_scheduler()], is_killed_twice())
    assert await site.read_copies() == list(range(1, 1201))


async def test_a_copier_that_dies_on_one_shard_is_replaced(valkey_url: str, server: Redis, shard: Shard) -> None:
    """Another worker continues on that shard once the lease has expired; the other shards do not wait for it.

    Each shard makes each copy once.
    """
    sites = [ReplayedStream(valkey_url, server, Shard(shard.name, number)) for number in range(3)]
    for site, rate in zip(sites, (100, 100_000, 100_000), strict=True):
        await site.append(range(1, 301))
        await site.start(300, rate=rate)
    dying, *others = [site.make_scheduler() for site in sites]

    async def dies() -> None:
        await sites[0].has_copied(50)
        raise ConnectionAbortedError

    async def all_are_done() -> None:
        for site in (*sites[1:], sites[0]):
            await site.has(State.DONE)

    with suppress(ExceptionGroup):
        await run_beside([dying], dies())
    copied = len(await sites[0].read_copies())
    await run_beside([sites[0].make_scheduler(), *others], all_are_done())

    assert copied >= 50
    assert [await site.read_copies() for site in sites] == [list(range(1, 301))] * 3


async def test_a_replay_of_another_version_is_skipped(valkey_url: str, server: Redis, shard: Shard) -> None:
    """A replay of another version does not stop a worker and is not deleted; other replays continue."""
    site = ReplayedStream(valkey_url, server, shard)
    await site.append([1])
    strange: Any = {"later": b'{"of":"the future"}', "broken": b"{", "broken:state": b"running"}
    await server.hset(shard.replays(GROUP), mapping=strange)
    await site.start(1)
    await run_beside([site.make_scheduler()], site.has(State.DONE))
    assert [progress.replay.id for progress in await site.replays.all()] == ["r"]
    assert await server.hexists(shard.replays(GROUP), "later")


async def answers(question: Awaitable[bool]) -> bool:
    """Return the answer, or False if the restarted server has none yet."""
    with suppress(RedisError, OSError):
        return await question
    return False


async def has_copied(site: ReplayedStream, number: int) -> bool:
    return bool(await site.server.xlen(site.shard.replay(GROUP)) >= number)


async def is_done(site: ReplayedStream) -> bool:
    return (await site.progress()).state is State.DONE
