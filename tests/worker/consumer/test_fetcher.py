import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.streams.pending import make_group
from worker.consumer.fetcher import FetchedEntries, Fetcher
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat
from worker.sources import FEW, Source


@pytest.fixture
async def heartbeat(server: Redis, shard: Shard) -> Heartbeat:
    """A consumer of group g, which has entries for three turns."""
    await make_group(server, shard, 3 * FEW)
    return Heartbeat(GroupRef(server, shard, "g"))


@pytest.fixture
async def reader(server: Redis, shard: Shard, heartbeat: Heartbeat) -> AsyncIterator[Fetcher]:
    reader = Fetcher(GroupRef(server, shard, "g"), heartbeat, FEW)
    yield reader
    await reader.abandon()


def numbers(found: FetchedEntries) -> list[int]:
    """Which live entries these are."""
    return [int(flat[1]) for _, flat in found.get(Source.LIVE, []) if flat is not None]


async def pending(server: Redis, shard: Shard) -> int:
    return int((await server.xpending(shard.stream, "g"))["pending"])


async def test_while_entries_pile_up_the_next_read_is_under_way(reader: Fetcher) -> None:
    """Each entry comes once, in order; the read that finds no more begins none."""
    found = []
    for turn in range(4):
        _, entries = await reader.read(prefetch=turn < 3)
        found += numbers(entries)
        assert reader.is_idle == (turn == 3)
    assert found == list(range(3 * FEW))


async def test_it_reads_no_further_than_it_is_told(server: Redis, shard: Shard, reader: Fetcher) -> None:
    """Then nothing is in hand but what it has returned."""
    _, entries = await reader.read(prefetch=False)
    assert (numbers(entries), reader.is_idle, await pending(server, shard)) == (list(range(FEW)), True, FEW)


async def test_what_was_read_under_a_former_name_is_left_to_be_claimed(
    server: Redis, shard: Shard, reader: Fetcher, heartbeat: Heartbeat
) -> None:
    """It is not returned, and stays pending; the turn after that goes on behind it."""
    await reader.read(prefetch=True)
    heartbeat.renew()
    generation, entries = await reader.read(prefetch=False)
    assert (generation, entries) == (heartbeat.generation - 1, {})
    assert await pending(server, shard) == 2 * FEW
    assert numbers((await reader.read(prefetch=False))[1]) == list(range(2 * FEW, 3 * FEW))


async def test_a_read_that_is_abandoned_ends(reader: Fetcher) -> None:
    """Nothing of it goes on, and the next read is a new one."""
    await reader.read(prefetch=True)
    tasks = asyncio.all_tasks()
    await reader.abandon()
    assert reader.is_idle
    assert [task for task in tasks if task.done()]
