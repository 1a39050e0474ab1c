import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from stream.layout import Layout
from tests.support.samples.events import body, entry, event
from tests.support.streams.pending import count_pending, read_new_entries
from tests.support.waiting import until
from tests.support.workers.recording import GROUP, RecordingWorkers, ids, run_recording_workers
from worker.events.event import StatusEvent
from worker.group.group_ref import GroupRef
from worker.settle.dedup import Deduplicator, DedupWindow, mark
from worker.settle.settler import Settler
from worker.sources import Source

HOUR = DedupWindow(3600, 1000)
EVENTS = [event(body(message_uuid=f"m-{number}")) for number in range(2500)]


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[RecordingWorkers]:
    """Workers of a handler that notes its calls."""
    with run_recording_workers(valkey_url, server, shard, tmp_path) as site:
        yield site


async def test_handled_events_are_found(server: Redis, shard: Shard) -> None:
    """The ack marks handled events for its own group; lookups of many events are split."""
    many = DedupWindow(3600, 5000)
    entry_ids = await read_new_entries(server, shard, 2500)
    dedup = Deduplicator(GroupRef(server, shard, "g"), many)
    assert await dedup.find_handled(EVENTS) == []
    await Settler(GroupRef(server, shard, "g"), many).ack(Source.LIVE, entry_ids, [mark(event) for event in EVENTS])
    assert await dedup.find_handled(EVENTS) == list(range(2500))
    assert await dedup.find_handled([event(body(message_uuid="other")), EVENTS[3]]) == [1]
    assert await Deduplicator(GroupRef(server, shard, "another"), many).find_handled(EVENTS) == []
    assert await count_pending(server, shard) == 0


async def kept(server: Redis, shard: Shard) -> int:
    """Return the number of marks."""
    return int(await server.zcard(shard.handled("g")))


@pytest.mark.parametrize("source", Source)
async def test_marks_are_limited_in_number(server: Redis, shard: Shard, source: Source) -> None:
    """At the limit the oldest marks are removed; the whole key expires without new events."""
    entry_ids = await read_new_entries(server, shard, 70, source)
    memory = DedupWindow(3600, 20)
    settler, dedup = Settler(GroupRef(server, shard, "g"), memory), Deduplicator(GroupRef(server, shard, "g"), memory)
    for number, (entry_id, handled) in enumerate(zip(entry_ids[:45], EVENTS, strict=False)):
        await settler.ack(source, [entry_id], [mark(handled)])
        assert await kept(server, shard) == min(20, number + 1)
        assert number in await dedup.find_handled(EVENTS[: number + 1]) or number >= 20
    await settler.ack(source, entry_ids[45:], [mark(event) for event in EVENTS[45:70]])
    assert len(await dedup.find_handled(EVENTS[:70])) == 20
    assert 0 < await server.pttl(shard.handled("g")) <= 3600 * 1000
    assert await count_pending(server, shard, source) == 0


async def test_marks_are_limited_in_time(server: Redis, shard: Shard) -> None:
    """An expired mark is not found, and the next ack removes it; a newer mark of the event counts."""
    entry_ids = await read_new_entries(server, shard, 3)
    settler, dedup = Settler(GroupRef(server, shard, "g"), HOUR), Deduplicator(GroupRef(server, shard, "g"), HOUR)
    await settler.ack(Source.LIVE, entry_ids[:1], [mark(EVENTS[0])])
    now_ms = (await server.time())[0] * 1000
    for hours, places in ((0.9, [0]), (1.1, [])):
        await server.zadd(shard.handled("g"), {mark(EVENTS[0]): now_ms - round(hours * 3_600_000)})
        assert await dedup.find_handled(EVENTS[:1]) == places
    await settler.ack(Source.LIVE, entry_ids[1:2], [mark(EVENTS[1])])
    assert await kept(server, shard) == 1
    await settler.ack(Source.LIVE, entry_ids[2:], [mark(EVENTS[0])])
    assert await dedup.find_handled(EVENTS[:2]) == [0, 1]


async def test_a_repeat_on_another_shard_is_found(server: Redis, shard: Shard) -> None:
    """Each mark is on the shard that the event chooses, so every shard finds it; also after the number has changed."""
    layouts = [Layout(1, 1, 0)]
    shards = [Shard(shard.name, number) for number in range(4)]
    settlers = [Settler(GroupRef(server, each, "g"), HOUR, layout=lambda: layouts[-1]) for each in shards]
    finders = [Deduplicator(GroupRef(server, each, "g"), HOUR, lambda: layouts[-1]) for each in shards]

    async def ack(number: int, events: Sequence[StatusEvent]) -> None:
        entry_ids = await read_new_entries(server, shards[number], len(events))
        await settlers[number].ack(Source.LIVE, entry_ids, [mark(event) for event in events])
        assert await count_pending(server, shards[number]) == 0

    async def find(events: Sequence[StatusEvent]) -> list[int]:
        counts = [len(await finder.find_handled([*events, event(body(message_uuid="new"))])) for finder in finders]
        return list(dict.fromkeys(counts))

    await ack(0, EVENTS[:20])
    layouts.append(Layout(4, 4, time.time_ns() // 1_000_000))
    assert await find(EVENTS[:20]) == [20]
    await ack(1, EVENTS[20:60])
    assert all([await kept(server, each) for each in shards])
    layouts.append(Layout(4, 4, 0))  # all marks of before have expired
    assert await find(EVENTS[20:60]) == [40]
    layouts.append(Layout(2, 4, time.time_ns() // 1_000_000))
    assert await find(EVENTS[:60]) == [60]


async def test_local_marks_stay_on_the_shard_of_the_entry(server: Redis, shard: Shard) -> None:
    """Where repeats come to the same shard, no other gets or is asked for marks, unless the number has changed."""
    window, layouts = DedupWindow(3600, 1000, is_local=True), [Layout(2, 2, 0)]
    groups = [GroupRef(server, Shard(shard.name, number), "g") for number in range(2)]
    settler = Settler(groups[1], window, layout=lambda: layouts[-1])
    finders = [Deduplicator(group, window, lambda: layouts[-1]) for group in groups]

    entry_ids = await read_new_entries(server, groups[1].shard, 20)
    await settler.ack(Source.LIVE, entry_ids, [mark(event) for event in EVENTS[:20]])

    assert [await kept(server, group.shard) for group in groups] == [0, 20]
    assert [len(await finder.find_handled(EVENTS[:20])) for finder in finders] == [0, 20]
    layouts.append(Layout(1, 2, time.time_ns() // 1_000_000))
    assert [len(await finder.find_handled(EVENTS[:20])) for finder in finders] == [20, 20]


async def append(site: RecordingWorkers, *payloads: bytes, **more: Any) -> None:
    for payload in payloads:
        fields: Any = entry(payload, **more).to_fields()
        await site.server.xadd(site.shard.replay(GROUP) if more else site.shard.stream, fields)


@pytest.mark.parametrize("function", ["handle", "handle_all"])
async def test_a_repeated_payload_is_not_handled_again(site: RecordingWorkers, function: str) -> None:
    """No worker handles a repeated payload, and a metric counts it; other payloads and replays are handled."""
    await site.append(*ids("ok", range(50)))
    await site.start(function=function)
    await site.is_done()
    await site.start(function=function)
    await site.append(*ids("ok", range(60)))
    await site.is_done()
    called = [name for words in site.read_notes("done") for name in words if name.startswith("ok")]
    assert sorted(called) == sorted(ids("ok", range(60)))
    replayed: bytes = body(message_uuid="ok-1", to="447700900123")
    await append(site, replayed, replay="r-1", origin="0/1-0")
    await site.is_done()
    assert [name for words in site.read_notes("done") for name in words].count("ok-1") == 2


async def test_a_failed_event_is_handled_when_it_is_repeated(site: RecordingWorkers) -> None:
    """A failed event has no mark, so its repeat and its retry are both handled."""
    await site.append("until-2")
    await site.start("base=600&cap=600")
    await site.append("until-2")

    async def both_wait() -> bool:
        return bool((await site.group())["retries"] == 2)

    await until(both_wait)
    assert site.times("call") == {"until-2": 2}


async def test_without_a_dedup_time_nothing_is_marked(site: RecordingWorkers) -> None:
    """Without a dedup time each repeat is handled."""
    await site.start(dedup_seconds="0")
    for _ in range(2):
        await site.append("ok-1")
        await site.is_done()
    assert site.times("done") == {"ok-1": 2}
    assert await site.server.exists(site.shard.handled(GROUP)) == 0
