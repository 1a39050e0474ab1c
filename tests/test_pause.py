import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from random import Random

import aiohttp
import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.processes import ACKSTREAM, Process, becomes
from tests.recording import GROUP, Recording, ids, recording
from tests.waiting import until
from worker.dispatch.pause import EXPIRES_SECONDS, Pause, Why

LONGEST_SECONDS = 5


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[Recording]:
    """Workers of a handler that notes its calls."""
    with recording(valkey_url, server, shard, tmp_path) as site:
        yield site


async def is_paused(site: Recording, why: str | None) -> None:
    """Return when the group is paused for this reason, or not at all."""

    async def is_so() -> bool:
        return bool((await site.group())["paused"] == why)

    await until(is_so)


async def get(worker: Process, path: str) -> str:
    """What the worker's admin port says."""
    url = f"http://127.0.0.1:{worker.logged('worker.started')[0]['admin_port']}/{path}"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return await response.text()


async def run(site: Recording, *arguments: str) -> str:
    """What a command prints."""
    command = await asyncio.create_subprocess_exec(
        *(*ACKSTREAM, *arguments, "--redis-url", site.settings["redis_url"]),
        env={"ACKSTREAM_STREAM": site.shard.name},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await command.communicate()
    assert command.returncode == 0
    return said.decode()


async def test_when_everything_fails_the_group_pauses_and_goes_on_by_itself(site: Recording) -> None:
    """Soon, for all workers, seen everywhere; no event is parked or given up, nor has it had an attempt afterwards."""
    options = "attempts=1&concurrency=10"
    await site.append(*ids("down", range(500)))
    first = await site.start(options)
    await first.has_logged("group.paused")
    ready, paused = (
        datetime.fromisoformat(first.logged(name)[0]["timestamp"]) for name in ("consumer.ready", "group.paused")
    )
    assert (paused - ready).total_seconds() < LONGEST_SECONDS
    assert set(site.times("call").values()) <= {1, 2}
    second = await site.start(options)
    await second.has_logged("group.paused")
    group = await site.group()
    assert (group["paused"], group["retries"], group["dead"], group["outstanding"]) == ("failing", 0, 0, 500)
    for worker in (first, second):
        assert "is paused: nearly everything fails" in await get(worker, "ready")
        assert 'ackstream_group_paused{group="recorder",why="failing"} 1.0' in await get(worker, "metrics")
    (site.folder / "back").touch()
    await site.is_done()
    assert site.times("done") == dict.fromkeys(ids("down", range(500)), 1)
    assert {attempt for _, attempt, *_ in site.noted("call")} == {"1"}
    assert (await site.letters(), (await site.group())["paused"]) == ([], None)
    for worker in (first, second):
        await worker.has_logged("group.resumed")
        assert [len(worker.logged(f"group.{word}")) for word in ("paused", "resumed")] == [1, 1]
        assert await get(worker, "ready") == "ready\n"


async def test_with_few_events_it_pauses_within_seconds(site: Recording) -> None:
    """Also for lists; and it does not depend on the worker that paused it: killed, another probes and goes on."""
    await site.append(*ids("down", range(3)))
    worker = await site.start("attempts=2", function="handle_all")
    for number in range(3, 12):
        await site.append(f"down-{number}")
        await asyncio.sleep(0.5)
    await is_paused(site, "failing")
    group = await site.group()
    assert (group["retries"], group["dead"], group["outstanding"]) == (0, 0, 12)
    assert 0 < await site.server.pttl(site.shard.paused(GROUP)) <= EXPIRES_SECONDS * 1000
    worker.kill()
    (site.folder / "back").touch()
    await site.start(function="handle_all")
    await site.is_done(seconds=60)
    assert {one for words in site.noted("done") for one in words} == set(ids("down", range(12)))
    assert await site.letters() == []


async def test_events_that_fail_by_key_pause_nothing(site: Recording) -> None:
    """Half of them fail, in the end only those are left: each has exactly its attempts, and nothing waits for it."""
    events = [*ids("fail", range(150)), *ids("ok", range(150))]
    Random(7).shuffle(events)  # noqa: S311 - no secret
    await site.append(*events)
    worker = await site.start("base=0.2&cap=0.2&attempts=3")
    await site.is_done()
    assert worker.logged("group.paused") == []
    assert site.times("call") == {
        **dict.fromkeys(ids("fail", range(150)), 3),
        **dict.fromkeys(ids("ok", range(150)), 1),
    }
    assert len(await site.letters()) == 150


async def test_some_that_never_succeed_do_not_hold_up_the_rest_for_long(site: Recording) -> None:
    """In a row they pause the group; when one comes that succeeds it goes on, and then they have their attempts."""
    await site.append(*ids("fail", range(60)))
    worker = await site.start("attempts=1&concurrency=4")
    await worker.has_logged("group.paused")
    await site.append(*ids("ok", range(60)))
    await becomes(lambda: len(site.times("done")) == 60, seconds=60)
    await site.is_done(seconds=60)
    assert len(await site.letters()) == 60


async def test_thousands_that_never_succeed_do_not_hold_up_what_comes_behind_them(site: Recording) -> None:
    """Whether they pause the group on the way or not: each has its attempt, and the newest tell that all is well."""
    await site.append(*ids("fail", range(6000)))
    await site.start("base=600&cap=600&concurrency=4")
    await site.append(*ids("ok", range(20)))
    await becomes(lambda: len(site.times("done")) == 20, seconds=60)

    async def all_wait() -> bool:
        return bool((await site.group())["retries"] == 6000)

    await until(all_wait, seconds=60)


async def test_somebody_may_say_that_the_events_are_at_fault(site: Recording) -> None:
    """Where nothing but such is left, each has its attempt once the group is resumed by hand."""
    await site.append(*ids("fail", range(60)))
    worker = await site.start("attempts=1&concurrency=4")
    await worker.has_logged("group.paused")
    assert await site.letters() == []
    assert f"group '{GROUP}' goes on; it was paused: failing" in await run(site, "groups", "resume", GROUP)
    await site.is_done()
    assert len(await site.letters()) == 60


async def test_too_many_dead_letters_pause_a_group(site: Recording) -> None:
    """Until there are fewer; resumed by hand it is paused again."""
    await site.append(*ids("discard", range(30)))
    worker = await site.start(dead_letters="20")
    await worker.has_logged("group.paused")
    await site.append(*ids("ok", range(20)))
    assert "it has too many dead letters" in await get(worker, "ready")
    assert f"group '{GROUP}' goes on; it was paused: dead-letters" in await run(site, "groups", "resume", GROUP)
    await is_paused(site, "dead-letters")
    assert len(site.times("done")) == 0
    await site.server.delete(site.shard.dead(GROUP))
    await site.is_done()
    assert len(site.times("done")) == 20
    assert f"group '{GROUP}' is not paused" in await run(site, "groups", "resume", GROUP)


async def test_one_worker_probes_at_a_time_and_less_and_less_often(server: Redis, shard: Shard) -> None:
    """Of any number; only while everything fails."""
    pauses = [Pause(server, shard, "g", 100, chance=lambda: 1.0) for _ in range(3)]
    assert not await pauses[0].may_probe()
    await pauses[0].begin(Why.FAILING)
    for pause in pauses:
        await pause.look()
    gaps = []
    for _ in range(3):
        turns: list[bool] = []
        while True not in turns:
            turns = [await pause.may_probe() for pause in pauses]
        gaps.append(await server.hget(shard.paused("g"), "probe"))
        assert turns.count(True) == 1
    times = [int(gap or 0) for gap in gaps]
    assert times[1] - times[0] < times[2] - times[1]


async def test_gone_stays_until_it_is_resumed(server: Redis, shard: Shard) -> None:
    """It takes the place of a pause that would end by itself, does not expire, and nothing else takes its place."""
    pause = Pause(server, shard, "g", 100)
    await pause.begin(Why.FAILING)
    await pause.begin(Why.GONE)
    assert await server.pttl(shard.paused("g")) == -1
    await pause.begin(Why.FAILING)
    await pause.end(Why.FAILING)
    await pause.look()
    assert (pause.why, await pause.may_probe(), await server.pttl(shard.paused("g"))) == (Why.GONE, False, -1)
