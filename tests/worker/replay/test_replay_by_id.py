from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.streams.replayed_stream import ReplayedStream, run_beside
from worker.replay.entry_filter import EntryFilter
from worker.replay.entry_reader import Span, read_stream
from worker.replay.job import State


async def test_a_replay_of_single_entries_copies_only_these(valkey_url: str, server: Redis, shard: Shard) -> None:
    """The entries between the first and the last chosen one are not copied; a chosen one that is gone is skipped."""
    stream = ReplayedStream(valkey_url, server, shard)
    await stream.append(range(1, 101))
    await server.xdel(shard.stream, "50-0")
    chosen = EntryFilter(ids=tuple(f"0/{number}-0" for number in (3, 50, 99, 7)))

    await stream.start(100, selection=chosen)
    await run_beside([stream.make_scheduler()], stream.has(State.DONE))

    assert await stream.read_copies() == [3, 7, 99]


async def test_single_entries_are_read_by_their_ids(server: Redis, shard: Shard) -> None:
    """The statuses of one message can have millions of entries between them, which are not read."""
    stream = ReplayedStream("", server, shard)
    await stream.append(range(1, 5001))
    before: Any = await server.info("commandstats")
    pages = [page async for page in read_stream(server, shard.stream, Span.full(0), ["0/1-0", "0/5000-0"])]
    after: Any = await server.info("commandstats")

    assert [[stored.id.ms for stored in page] for page in pages] == [[1, 5000]]
    assert after["cmdstat_xrange"]["calls"] - before.get("cmdstat_xrange", {"calls": 0})["calls"] <= 4
