"""The answers of ingest and its spool during each kind of Redis outage."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingest.append.group_commit import NotStored
from ingest.append.pipeline import open_pipeline
from ingest.settings import IngestSettings
from stream.keys import Shard
from tests.support.faults.outage_kinds import FAULTS
from tests.support.faults.redis_outages import ProxiedRedis, Sender, away_redis, counted, is_open, sending
from tests.support.faults.small_disk import fill, small_disk
from tests.support.in_process import Running, answers, ingesting
from tests.support.samples.events import entry
from tests.support.waiting import until


@pytest.fixture
async def away(tmp_path: Path, shard: Shard) -> AsyncIterator[ProxiedRedis]:
    async with away_redis(tmp_path / "valkey", shard) as away:
        yield away


@pytest.fixture
async def running(away: ProxiedRedis) -> AsyncIterator[Running]:
    async with ingesting(**away.settings) as running:
        yield running


@pytest.fixture
async def sender(running: Running) -> AsyncIterator[Sender]:
    async with sending(running.url) as sender:
        yield sender


@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_is_wrong_with_redis_all_is_kept(
    away: ProxiedRedis, running: Running, sender: Sender, fault: str
) -> None:
    """Answered 200 and ready all the while, counted by why; then all is on the stream by itself, and so is the next."""
    why, begin, end = FAULTS[fault]
    before = counted("spooled_entries_total", why=why)
    assert await sender.posts(3) == [200] * 3
    await begin(away)
    for _ in range(4):
        assert await sender.posts(5) == [200] * 5
    assert await answers(running.ready_url, 200)
    assert counted("spooled_entries_total", why=why) - before == 20
    assert counted("breaker_state") > 0
    await end(away)
    await away.has(sender.kept)
    await is_open()
    direct = counted("appended_entries_total")
    assert await sender.posts(3) == [200] * 3
    assert counted("appended_entries_total") - direct == 3
    ids = await away.ids()
    assert len(ids) - len(set(ids)) <= 5, "more than the first batch came twice"


async def test_what_was_spooled_is_what_was_received(away: ProxiedRedis, sender: Sender) -> None:
    """In the order of its receipt, with the time and the receipt's id of then."""
    away.kill()
    assert [await sender.post() for _ in range(60)] == [200] * 60
    await away.start()
    await away.has(sender.kept)
    entries = await away.entries()
    assert await away.ids() == sender.kept
    assert [entry.received_ms for entry in entries] == sorted(entry.received_ms for entry in entries)
    assert len({entry.receipt for entry in entries}) == 60
    first: Any = await away.server.xrange(away.shard.stream, count=1)
    assert entries[-1].received_ms < int(first[0][0].partition(b"-")[0]), "the outage was over too early"


async def test_it_starts_without_redis(away: ProxiedRedis) -> None:
    """Ingest is ready at once: webhooks are spooled, and appended when Redis is up."""
    away.kill()
    async with ingesting(**away.settings) as running, sending(running.url) as sender:
        assert await sender.posts(3) == [200] * 3
        await away.start()
        await away.has(sender.kept)


async def test_only_the_first_ones_wait(away: ProxiedRedis, sender: Sender) -> None:
    """With a silent Redis the first request waits for the budget; later requests are answered without asking Redis."""
    loop = asyncio.get_running_loop()
    away.freeze()
    began = loop.time()
    assert await sender.posts(20) == [200] * 20
    assert 0.4 < loop.time() - began < 5
    probes = away.proxy.connections
    began = loop.time()
    for _ in range(20):
        assert await sender.post() == 200
    assert loop.time() - began < 5
    assert away.proxy.connections - probes < 20


async def test_a_slow_redis_is_waited_for_within_the_budget(away: ProxiedRedis, sender: Sender) -> None:
    """Confirmed after 0.2 s: it is on the stream, and the spool is not used."""
    before = counted("appended_entries_total")
    away.proxy.delay_seconds = 0.1
    assert await sender.posts(5) == [200] * 5
    assert counted("appended_entries_total") - before == 5
    assert len(await away.ids()) == 5


async def test_a_reply_that_is_lost_makes_an_entry_come_twice(away: ProxiedRedis, sender: Sender) -> None:
    """The same receipt, which workers recognise: once from the append whose reply was lost, once from the spool."""
    away.proxy.swallows_replies = True
    assert await sender.post() == 200
    away.proxy.swallows_replies = False
    await is_open()
    first, second = await away.entries()
    assert first == second


async def test_a_batch_that_is_cut_in_the_middle_is_kept(away: ProxiedRedis, sender: Sender) -> None:
    """The server never runs a script that it has heard only half of; the spool has it all."""
    assert await sender.post() == 200
    away.proxy.cut_after(300)
    assert await sender.posts(10) == [200] * 10
    await is_open()
    assert sorted(await away.ids()) == sorted(sender.kept)


async def test_loading_its_data_redis_is_away(away: ProxiedRedis, sender: Sender, tmp_path: Path) -> None:
    """A restarted Redis loads for seconds; webhooks of that time are spooled."""
    async with away.server.pipeline() as pipe:
        for _ in range(20_000):
            pipe.incr("number")
        await pipe.execute()
    away.kill()
    with (tmp_path / "valkey" / "valkey.conf").open("a") as file:
        file.write("key-load-delay 100\n")
    before = counted("spooled_entries_total", why="loading")
    starting = asyncio.create_task(away.start())
    while not starting.done():
        assert await sender.post() == 200
    await starting
    assert counted("spooled_entries_total", why="loading") > before
    await away.has(sender.kept)


async def test_live_ones_pass_those_that_are_drained(away: ProxiedRedis, sender: Sender) -> None:
    """While the spool is drained what comes goes to the stream directly."""
    away.kill()
    for _ in range(40):
        assert await sender.posts(100) == [200] * 100
    await away.start()

    async def is_draining() -> bool:
        return counted("breaker_state") == 0

    await until(is_draining)
    direct, spooled = counted("appended_entries_total"), counted("spool_entries")
    assert await sender.posts(10) == [200] * 10
    assert counted("appended_entries_total") - direct == 10
    assert spooled > 0, "it was drained before a live one could come: the test proves nothing"
    await away.has(sender.kept)


async def test_a_server_that_answers_and_takes_nothing_stays_away(away: ProxiedRedis, sender: Sender) -> None:
    """The probe appends something: so a replica costs one batch its way to it, not one for each probe."""
    before = counted("append_failures_total", fault="read-only")
    await away.tell("REPLICAOF", "127.0.0.1", 1)
    assert await sender.post() == 200
    probing = asyncio.create_task(away.is_probed(4))
    while not probing.done():
        assert await sender.post() == 200
        await asyncio.sleep(0.01)
    await probing
    assert counted("append_failures_total", fault="read-only") - before == 1
    await away.tell("REPLICAOF", "NO", "ONE")
    await away.has(sender.kept)


async def test_draining_is_cut_short_again_and_again(away: ProxiedRedis, sender: Sender) -> None:
    """Nothing is forgotten before Redis has confirmed it: cut in the middle of any slice, it comes again."""
    away.kill()
    for _ in range(12):
        assert await sender.posts(100) == [200] * 100
    await away.start()
    away.proxy.cut_after(50_000)
    cuts = away.proxy.cuts
    while counted("spool_entries"):
        if away.proxy.cuts > cuts:
            cuts = away.proxy.cuts
            away.proxy.cut_after(50_000 + 10_000 * cuts)
        await asyncio.sleep(0.01)
    assert cuts > 3
    await away.has(sender.kept)


async def test_before_memory_is_full_entries_go_to_the_spool(
    away: ProxiedRedis, sender: Sender, running: Running
) -> None:
    """At 95 % memory entries go to the spool, before Redis refuses them; below that they go to Redis again."""
    before = counted("spooled_entries_total", why="memory")
    for n in range(500):
        await away.server.set(f"filler-{n}", b"x" * 100_000)  # the cost of connections is small compared to this
    used = (await away.server.info("memory"))["used_memory"]
    await away.tell("CONFIG SET", "maxmemory", int(used / 0.97))

    async def is_shut() -> bool:
        return counted("breaker_state") > 0

    await until(is_shut)
    assert await sender.posts(5) == [200] * 5
    assert await answers(running.ready_url, 200)
    assert counted("spooled_entries_total", why="memory") - before == 5
    assert counted("redis_memory_ratio") > 0.9
    await away.is_probed(3)
    assert await away.ids() == [], "spooled entries were sent to a server that is nearly full"
    await away.tell("CONFIG SET", "maxmemory", 2**30)
    await away.has(sender.kept)


async def test_with_neither_redis_nor_spool_it_says_503(away: ProxiedRedis) -> None:
    """Ingest is also not ready. When Redis is up it is ready again, and stored entries are on the stream."""
    async with ingesting(**away.settings, spool_bytes=2**20) as running, sending(running.url) as sender:
        away.kill()
        while 503 not in await sender.posts(100):
            assert sender.sent < 5000
        async with sender.http.post(running.url, data=b"x" * 10_000) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert await answers(running.ready_url, 503)
        assert counted("spool_refused_total", why="full") > 0
        await away.start()
        await until(lambda: answers(running.ready_url, 200))
        await away.has(sender.kept)


async def test_a_full_disk_is_drained_while_it_is_full(away: ProxiedRedis, tmp_path: Path) -> None:
    """A full spool is answered 503; its entries are drained to Redis, although not even a deletion can be written."""
    with small_disk(tmp_path / "disk", 2**20) as disk:
        async with ingesting(**away.settings, data=disk) as running, sending(running.url) as sender:
            away.kill()
            assert await sender.posts(200) == [200] * 200
            fill(disk)
            assert set(await sender.posts(20)) == {503}
            assert await answers(running.ready_url, 503)
            await away.start()
            await away.has(sender.kept)
            await is_open()
            assert await sender.posts(20) == [200] * 20


async def test_what_waits_at_the_end_is_kept(away: ProxiedRedis, tmp_path: Path) -> None:
    """An entry is on the stream when the block ends, even if its future is not awaited."""
    settings = IngestSettings.load(**away.settings, data=tmp_path / "own")
    async with open_pipeline(away.server, settings) as appender:
        waiting = [appender.append(entry(b"%d" % n)) for n in range(1000)]
    assert [future.exception() for future in waiting] == [None] * 1000
    assert len(await away.entries()) == 1000
    assert appender.not_ready_reason == "stopping"
    with pytest.raises(NotStored):
        await appender.append(entry(b"late"))


async def test_a_stop_leaves_nothing_unanswered(away: ProxiedRedis) -> None:
    """Entries that wait for a silent Redis at the stop are spooled and answered; the next start drains them."""
    async with ingesting(**away.settings) as running, sending(running.url) as sender:
        away.freeze()
        posts = asyncio.create_task(sender.posts(10))
        await asyncio.wait([posts], timeout=0.1)
        running.stop.set()
        assert await posts == [200] * 10
    away.thaw()
    async with ingesting(**away.settings):
        await away.has(sender.kept)
        await is_open()
