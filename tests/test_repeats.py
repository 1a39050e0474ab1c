from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.events import body, entry, event
from tests.recording import GROUP, Recording, ids, recording
from tests.test_settle import left, pending
from tests.waiting import until
from worker.repeats import Memory, Repeats, mark
from worker.settle import Settler
from worker.turns import Source

HOUR = Memory(3600, 1000)
EVENTS = [event(body(message_uuid=f"m-{number}")) for number in range(2500)]


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[Recording]:
    """Workers of a handler that notes its calls."""
    with recording(valkey_url, server, shard, tmp_path) as site:
        yield site


async def test_what_was_settled_as_handled_is_known(server: Redis, shard: Shard) -> None:
    """In one step with its end, for its group alone; more than one script can take are asked about in parts."""
    many = Memory(3600, 5000)
    entry_ids = await pending(server, shard, 2500)
    repeats = Repeats(server, shard, "g", many)
    assert await repeats.among(EVENTS) == []
    await Settler(server, shard, "g", many).ack(Source.LIVE, entry_ids, [mark(one) for one in EVENTS])
    assert await repeats.among(EVENTS) == list(range(2500))
    assert await repeats.among([event(body(message_uuid="other")), EVENTS[3]]) == [1]
    assert await Repeats(server, shard, "another", many).among(EVENTS) == []
    assert await left(server, shard) == 0


@pytest.mark.parametrize("source", Source)
async def test_marks_are_limited_in_number_and_time(server: Redis, shard: Shard, source: Source) -> None:
    """Of too many the oldest go; what is too old is not known any more, and all goes when nothing comes."""
    entry_ids = await pending(server, shard, 5, source)
    settler = Settler(server, shard, "g", Memory(3600, 3))
    for entry_id, one in zip(entry_ids, EVENTS[:5], strict=True):
        await settler.ack(source, [entry_id], [mark(one)])
    assert await server.zcard(shard.handled("g")) == 3
    assert 0 < await server.pttl(shard.handled("g")) <= 3600 * 1000
    assert await left(server, shard, source) == 0
    seconds, _ = await server.time()
    old: Any = {mark(EVENTS[7]): (seconds - 3700) * 1000}
    await server.zadd(shard.handled("g"), old)
    assert await Repeats(server, shard, "g", HOUR).among([EVENTS[7]]) == []


async def append(site: Recording, *payloads: bytes, **known: Any) -> None:
    for payload in payloads:
        fields: Any = entry(payload, **known).to_fields()
        await site.server.xadd(site.shard.replay(GROUP) if known else site.shard.stream, fields)


@pytest.mark.parametrize("function", ["handle", "handle_all"])
async def test_a_payload_that_comes_again_is_not_handled_again(site: Recording, function: str) -> None:
    """By another worker neither; told by a metric. What differs is handled, and so is a replay of the same."""
    await site.append(*ids("ok", range(50)))
    await site.start(function=function)
    await site.is_done()
    await site.start(function=function)
    await site.append(*ids("ok", range(60)))
    await site.is_done()
    called = [one for words in site.noted("done") for one in words if one.startswith("ok")]
    assert sorted(called) == sorted(ids("ok", range(60)))
    replayed: bytes = body(message_uuid="ok-1", to="447700900123")
    await append(site, replayed, replay="r-1", origin="0/1-0")
    await site.is_done()
    assert [one for words in site.noted("done") for one in words].count("ok-1") == 2


async def test_what_failed_is_handled_when_it_comes_again(site: Recording) -> None:
    """Only success is remembered; the retry of the first comes all the same."""
    await site.append("until-2")
    await site.start("base=600&cap=600")
    await site.append("until-2")

    async def both_wait() -> bool:
        return bool((await site.group())["retries"] == 2)

    await until(both_wait)
    assert site.times("call") == {"until-2": 2}


async def test_without_a_time_nothing_is_remembered(site: Recording) -> None:
    """Each payload is handled as often as it comes."""
    await site.start(repeat_seconds="0")
    for _ in range(2):
        await site.append("ok-1")
        await site.is_done()
    assert site.times("done") == {"ok-1": 2}
    assert await site.server.exists(site.shard.handled(GROUP)) == 0
