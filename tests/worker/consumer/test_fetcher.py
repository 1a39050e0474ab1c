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
    """Return the heartbeat of a consumer of group g, whose stream has entries for three reads."""
    await make_group(server, shard, 3 * FEW)
    return Heartbeat(GroupRef(server, shard, "g"))


@pytest.fixture
async def reader(server: Redis, shard: Shard, heartbeat: Heartbeat) -> AsyncIterator[Fetcher]:
    reader = Fetcher(GroupRef(server, shard, "g"), heartbeat, FEW)
    yield reader
    await reader.abandon()


def numbers(entries: FetchedEntries) -> list[int]:
    """Return the numbers of the live entries."""
    return [int(flat[1]) for _, flat in entries.get(Source.LIVE, []) if flat is not None]


async def count_pending(server: Redis, shard: Shard) -> int:
    return int((await server.xpending(shard.stream, "g"))["pending"])


async def test_while_entries_pile_up_the_next_read_is_under_way(reader: Fetcher) -> None:
    """Each entry is returned once, in order; the last read prefetches nothing."""
    returned = []
    for turn in range(4):
        _, entries = await reader.read(prefetch=turn < 3)
        returned += numbers(entries)
        assert reader.is_idle == (turn == 3)
    assert returned == list(range(3 * FEW))


async def test_it_prefetches_only_on_request(server: Redis, shard: Shard, reader: Fetcher) -> None:
    """Without prefetch, only the returned entries are pending."""
    _, entries = await reader.read(prefetch=False)
    assert (numbers(entries), reader.is_idle, await count_pending(server, shard)) == (list(range(FEW)), True, FEW)


async def test_entries_read_under_a_former_name_stay_pending(
    server: Redis, shard: Shard, reader: Fetcher, heartbeat: Heartbeat
) -> None:
    """Entries of a former name are not returned and stay pending; the next read returns the entries after them."""
    await reader.read(prefetch=True)
    heartbeat.renew()
    generation, entries = await reader.read(prefetch=False)
    assert (generation, entries) == (heartbeat.generation - 1, {})
    assert await count_pending(server, shard) == 2 * FEW
    assert numbers((await reader.read(prefetch=False))[1]) == list(range(2 * FEW, 3 * FEW))


async def test_a_read_that_is_abandoned_ends(reader: Fetcher) -> None:
    """After ``abandon`` no read is under way."""
    await reader.read(prefetch=True)
    tasks = asyncio.all_tasks()
    await reader.abandon()
    assert reader.is_idle
    assert [task for task in tasks if task.done()]
