"""The answers of ingest and its spool during each kind of Redis outage."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ingest.append.group_commit import NotStored
from ingest.append.pipeline import open_pipeline
from ingest.settings import IngestSettings
from stream.keys import Shard
from tests.support.faults.outage_kinds import OUTAGES
from tests.support.faults.redis_outages import (
    ProxiedRedis,
    Sender,
    is_open,
    open_sender,
    read_metric,
    run_proxied_redis,
)
from tests.support.faults.small_disk import fill, small_disk
from tests.support.in_process import Running, answers, run_ingest
from tests.support.samples.events import entry
from tests.support.waiting import until


@pytest.fixture
async def redis(tmp_path: Path, shard: Shard) -> AsyncIterator[ProxiedRedis]:
    async with run_proxied_redis(tmp_path / "valkey", shard) as redis:
        yield redis


@pytest.fixture
async def ingest(redis: ProxiedRedis) -> AsyncIterator[Running]:
    async with run_ingest(**redis.settings) as ingest:
        yield ingest


@pytest.fixture
async def sender(ingest: Running) -> AsyncIterator[Sender]:
    async with open_sender(ingest.url) as sender:
        yield sender


def count_spooled(reasons: Sequence[str]) -> float:
    return sum(read_metric("spooled_entries_total", why=why) for why in reasons)


@pytest.mark.parametrize("outage", OUTAGES)
async def test_whatever_is_wrong_with_redis_all_is_kept(
    redis: ProxiedRedis, ingest: Running, sender: Sender, outage: str
) -> None:
    """Answered 200 and ready all the while, counted by why; then all is on the stream by itself, and so is the next."""
    reasons, run_outage = OUTAGES[outage]
    before = count_spooled(reasons)
    assert await sender.posts(3) == [200] * 3
    async with run_outage(redis):
        for _ in range(4):
            assert await sender.posts(5) == [200] * 5
        assert await answers(ingest.ready_url, 200)
        assert count_spooled(reasons) - before == 20
        assert read_metric("breaker_state") > 0
    await redis.has(sender.accepted_ids)
    await is_open()
    direct = read_metric("appended_entries_total")
    assert await sender.posts(3) == [200] * 3
    assert read_metric("appended_entries_total") - direct == 3
    ids = await redis.ids()
    assert len(ids) - len(set(ids)) <= 5, "more than the first batch came twice"


async def test_what_was_spooled_is_what_was_received(redis: ProxiedRedis, sender: Sender) -> None:
    """In the order of its receipt, with the time and the receipt's id of then."""
    redis.kill()
    assert [await sender.post() for _ in range(60)] == [200] * 60
    await redis.start()
    await redis.has(sender.accepted_ids)
    entries = await redis.entries()
    assert await redis.ids() == sender.accepted_ids
    assert [entry.received_ms for entry in entries] == sorted(entry.received_ms for entry in entries)
    assert len({entry.receipt for entry in entries}) == 60
    first: Any = await redis.server.xrange(redis.shard.stream, count=1)
    assert entries[-1].received_ms < int(first[0][0].partition(b"-")[0]), "the outage was over too early"


async def test_it_starts_without_redis(redis: ProxiedRedis) -> None:
    """Ingest is ready at once: webhooks are spooled, and appended when Redis is up."""
    redis.kill()
    async with run_ingest(**redis.settings) as ingest, open_sender(ingest.url) as sender:
        assert await sender.posts(3) == [200] * 3
        await redis.start()
        await redis.has(sender.accepted_ids)


async def test_only_the_first_ones_wait(redis: ProxiedRedis, sender: Sender) -> None:
    """With a silent Redis the first request waits for the budget; later requests are answered without asking Redis."""
    loop = asyncio.get_running_loop()
    redis.freeze()
    began = loop.time()
    assert await sender.posts(20) == [200] * 20
    assert 0.4 < loop.time() - began < 5
    probes = redis.proxy.connections
    began = loop.time()
    for _ in range(20):
        assert await sender.post() == 200
    assert loop.time() - began < 5
    assert redis.proxy.connections - probes < 20


async def test_a_slow_redis_is_waited_for_within_the_budget(redis: ProxiedRedis, sender: Sender) -> None:
    """Confirmed after 0.2 s: it is on the stream, and the spool is not used."""
    before = read_metric("appended_entries_total")
    redis.proxy.delay_seconds = 0.1
    assert await sender.posts(5) == [200] * 5
    assert read_metric("appended_entries_total") - before == 5
    assert len(await redis.ids()) == 5


async def test_a_reply_that_is_lost_makes_an_entry_come_twice(redis: ProxiedRedis, sender: Sender) -> None:
    """The same receipt, which workers recognise: once from the append whose reply was lost, once from the spool."""
    redis.proxy.swallows_replies = True
    assert await sender.post() == 200
    redis.proxy.swallows_replies = False
    await is_open()
    first, second = await redis.entries()
    assert first == second


async def test_a_batch_that_is_cut_in_the_middle_is_kept(redis: ProxiedRedis, sender: Sender) -> None:
    """The server never runs a script that it has heard only half of; the spool has it all."""
    assert await sender.post() == 200
    redis.proxy.cut_after(300)
    assert await sender.posts(10) == [200] * 10
    await is_open()
    assert sorted(await redis.ids()) == sorted(sender.accepted_ids)


async def test_loading_its_data_redis_is_away(redis: ProxiedRedis, sender: Sender, tmp_path: Path) -> None:
    """A restarted Redis loads for seconds; webhooks of that time are spooled."""
    async with redis.server.pipeline() as pipe:
        for _ in range(20_000):
            pipe.incr("number")
        await pipe.execute()
    redis.kill()
    with (tmp_path / "valkey" / "valkey.conf").open("a") as file:
        file.write("key-load-delay 100\n")
    before = read_metric("spooled_entries_total", why="loading")
    starting = asyncio.create_task(redis.start())
    while not starting.done():
        assert await sender.post() == 200
    await starting
    assert read_metric("spooled_entries_total", why="loading") > before
    await redis.has(sender.accepted_ids)


async def test_live_ones_pass_those_that_are_drained(redis: ProxiedRedis, sender: Sender) -> None:
    """While the spool is drained what comes goes to the stream directly."""
    redis.kill()
    for _ in range(40):
        assert await sender.posts(100) == [200] * 100
    await redis.start()

    async def is_draining() -> bool:
        return read_metric("breaker_state") == 0

    await until(is_draining)
    direct, spooled = read_metric("appended_entries_total"), read_metric("spool_entries")
    assert await sender.posts(10) == [200] * 10
    assert read_metric("appended_entries_total") - direct == 10
    assert spooled > 0, "it was drained before a live one could come: the test proves nothing"
    await redis.has(sender.accepted_ids)


async def test_a_server_that_answers_and_takes_nothing_stays_away(redis: ProxiedRedis, sender: Sender) -> None:
    """The probe appends something: so a replica costs one batch its way to it, not one for each probe."""
    before = read_metric("append_failures_total", fault="read-only")
    await redis.run_command("REPLICAOF", "127.0.0.1", 1)
    assert await sender.post() == 200
    probing = asyncio.create_task(redis.is_probed(4))
    while not probing.done():
        assert await sender.post() == 200
        await asyncio.sleep(0.01)
    await probing
    assert read_metric("append_failures_total", fault="read-only") - before == 1
    await redis.run_command("REPLICAOF", "NO", "ONE")
    await redis.has(sender.accepted_ids)


async def test_draining_is_cut_short_again_and_again(redis: ProxiedRedis, sender: Sender) -> None:
    """Nothing is forgotten before Redis has confirmed it: cut in the middle of any slice, it comes again."""
    redis.kill()
    for _ in range(12):
        assert await sender.posts(100) == [200] * 100
    await redis.start()
    redis.proxy.cut_after(50_000)
    cuts = redis.proxy.cuts
    while read_metric("spool_entries"):
        if redis.proxy.cuts > cuts:
            cuts = redis.proxy.cuts
            redis.proxy.cut_after(50_000 + 10_000 * cuts)
        await asyncio.sleep(0.01)
    assert cuts > 3
    await redis.has(sender.accepted_ids)


async def test_before_memory_is_full_entries_go_to_the_spool(
    redis: ProxiedRedis, sender: Sender, ingest: Running
) -> None:
    """At 95 % memory entries go to the spool, before Redis refuses them; below that they go to Redis again."""
    before = read_metric("spooled_entries_total", why="memory")
    for n in range(500):
        await redis.server.set(f"filler-{n}", b"x" * 100_000)  # the cost of connections is small compared to this
    used = (await redis.server.info("memory"))["used_memory"]
    await redis.run_command("CONFIG SET", "maxmemory", int(used / 0.97))

    async def is_shut() -> bool:
        return read_metric("breaker_state") > 0

    await until(is_shut)
    assert await sender.posts(5) == [200] * 5
    assert await answers(ingest.ready_url, 200)
    assert read_metric("spooled_entries_total", why="memory") - before == 5
    assert read_metric("redis_memory_ratio") > 0.9
    await redis.is_probed(3)
    assert await redis.ids() == [], "spooled entries were sent to a server that is nearly full"
    await redis.run_command("CONFIG SET", "maxmemory", 2**30)
    await redis.has(sender.accepted_ids)


async def test_with_neither_redis_nor_spool_it_says_503(redis: ProxiedRedis) -> None:
    """Ingest is also not ready. When Redis is up it is ready again, and stored entries are on the stream."""
    async with run_ingest(**redis.settings, spool_bytes=2**20) as ingest, open_sender(ingest.url) as sender:
        redis.kill()
        while 503 not in await sender.posts(100):
            assert sender.sent < 5000
        async with sender.http.post(ingest.url, data=b"x" * 10_000) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert await answers(ingest.ready_url, 503)
        assert read_metric("spool_refused_total", why="full") > 0
        await redis.start()
        await until(lambda: answers(ingest.ready_url, 200))
        await redis.has(sender.accepted_ids)


async def test_a_full_disk_is_drained_while_it_is_full(redis: ProxiedRedis, tmp_path: Path) -> None:
    """A full spool is answered 503; its entries are drained to Redis, although not even a deletion can be written."""
    with small_disk(tmp_path / "disk", 2**20) as disk:
        async with run_ingest(**redis.settings, data=disk) as ingest, open_sender(ingest.url) as sender:
            redis.kill()
            assert await sender.posts(200) == [200] * 200
            fill(disk)
            assert set(await sender.posts(20)) == {503}
            assert await answers(ingest.ready_url, 503)
            await redis.start()
            await redis.has(sender.accepted_ids)
            await is_open()
            assert await sender.posts(20) == [200] * 20


async def test_what_waits_at_the_end_is_kept(redis: ProxiedRedis, tmp_path: Path) -> None:
    """An entry is on the stream when the block ends, even if its future is not awaited."""
    settings = IngestSettings.load(**redis.settings, data=tmp_path / "own")
    async with open_pipeline(redis.server, settings) as appender:
        waiting = [appender.append(entry(b"%d" % n)) for n in range(1000)]
    assert [future.exception() for future in waiting] == [None] * 1000
    assert len(await redis.entries()) == 1000
    assert appender.not_ready_reason == "stopping"
    with pytest.raises(NotStored):
        await appender.append(entry(b"late"))


async def test_a_stop_leaves_nothing_unanswered(redis: ProxiedRedis) -> None:
    """Entries that wait for a silent Redis at the stop are spooled and answered; the next start drains them."""
    async with run_ingest(**redis.settings) as ingest, open_sender(ingest.url) as sender:
        redis.freeze()
        posts = asyncio.create_task(sender.posts(10))
        await asyncio.wait([posts], timeout=0.1)
        ingest.stop.set()
        assert await posts == [200] * 10
    redis.thaw()
    async with run_ingest(**redis.settings):
        await redis.has(sender.accepted_ids)
        await is_open()
