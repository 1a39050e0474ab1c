import asyncio
import itertools
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from random import Random

import aiohttp
import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.processes import Process, becomes, run_ackstream
from tests.support.waiting import until
from tests.support.workers.recording import GROUP, RecordingWorkers, ids, run_recording_workers
from worker.dispatch.pause import EXPIRES_SECONDS, RESULT_SECONDS, Pause, PauseReason
from worker.group.group_ref import GroupRef

LONGEST_SECONDS = 5
PACE = 0.3
"""Shorter intervals for tests that wait for dead workers or probes."""


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[RecordingWorkers]:
    """Yield workers whose handler records its calls."""
    with run_recording_workers(valkey_url, server, shard, tmp_path) as site:
        yield site


async def is_paused(site: RecordingWorkers, why: str | None) -> None:
    """Wait until the group is paused for this reason, or is not paused."""

    async def is_so() -> bool:
        return bool((await site.group())["paused"] == why)

    await until(is_so)


async def get(worker: Process, path: str) -> str:
    """Return a page of the worker's admin port."""
    url = f"http://127.0.0.1:{worker.read_log('worker.started')[0]['admin_port']}/{path}"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return await response.text()


def run(site: RecordingWorkers, *arguments: str) -> str:
    """Run a command, and return its output."""
    completed = run_ackstream(*arguments, folder=site.folder, **site.settings)
    assert completed.returncode == 0
    return completed.stdout


async def test_when_every_call_fails_the_group_pauses_and_resumes(site: RecordingWorkers) -> None:
    """The pause starts soon, applies to all workers, and is reported; no event is dead-lettered after one attempt."""
    options = "attempts=1&concurrency=10&base=0.5&cap=0.5"
    await site.append(*ids("down", range(500)))
    first = await site.start(options)
    await first.has_logged("group.paused")
    ready, paused = (
        datetime.fromisoformat(first.read_log(name)[0]["timestamp"]) for name in ("consumer.ready", "group.paused")
    )
    assert (paused - ready).total_seconds() < LONGEST_SECONDS
    second = await site.start(options)
    await second.has_logged("group.paused")
    group = await site.group()
    assert (group["paused"], group["dead"], group["outstanding"]) == ("failing", 0, 500)
    for worker in (first, second):
        assert "is paused: nearly every call fails" in await get(worker, "ready")
        assert 'ackstream_group_paused{group="recorder",why="failing"} 1.0' in await get(worker, "metrics")
    (site.folder / "back").touch()
    await site.is_done(seconds=60)
    assert site.times("done") == dict.fromkeys(ids("down", range(500)), 1)
    assert (await site.letters(), (await site.group())["paused"]) == ([], None)
    for worker in (first, second):
        await worker.has_logged("group.resumed")
        assert [len(worker.read_log(f"group.{word}")) for word in ("paused", "resumed")] == [1, 1]
        assert await get(worker, "ready") == "ready\n"


async def test_with_few_events_it_pauses_within_seconds(site: RecordingWorkers) -> None:
    """Few events pause the group too, also with lists; if the pausing worker is killed, another one probes."""
    worker = await site.start("attempts=2", function="handle_all")
    number = itertools.count()
    while (await site.group())["paused"] is None:
        await site.append(f"down-{next(number)}")
        await asyncio.sleep(0.4)
    sent = next(number)
    assert sent < 15
    group = await site.group()
    assert (group["dead"], group["outstanding"]) == (0, sent)
    longest = EXPIRES_SECONDS + RESULT_SECONDS  # of a probe that may take a minute
    assert 0 < await site.server.pttl(site.shard.paused(GROUP)) <= longest * 1000
    worker.kill()
    (site.folder / "back").touch()
    site.pace = PACE
    await site.start("base=0.5&cap=0.5", function="handle_all")
    await site.append("ok-1")
    await site.is_done(seconds=60)
    assert {name for words in site.read_notes("done") for name in words} == {*ids("down", range(sent)), "ok-1"}
    assert await site.letters() == []


async def test_a_few_bad_events_of_a_quiet_group_pause_nothing(site: RecordingWorkers) -> None:
    """A few bad events are retried and, once others succeed, dead-lettered after exactly their attempts."""
    worker = await site.start("base=0.2&cap=0.2&attempts=2")
    for number in range(5):
        await site.append(f"fail-{number}")
        await asyncio.sleep(0.8)
    await becomes(lambda: min(site.times("call")[name] for name in ids("fail", range(5))) > 1)
    assert (worker.read_log("group.paused"), await site.letters()) == ([], [])
    await site.is_done_among_good()
    assert [count for _, _, count in await site.letters()] == [2] * 5


async def test_bad_events_among_good_ones_have_exactly_their_attempts(site: RecordingWorkers) -> None:
    """With half of the events failing, the group does not pause, and each bad event has three attempts."""
    events = [*ids("fail", range(150)), *ids("ok", range(150))]
    Random(7).shuffle(events)  # noqa: S311 - no secret
    await site.append(*events)
    worker = await site.start("base=0.5&cap=0.5&attempts=3")
    await site.is_done_among_good()
    assert worker.read_log("group.paused") == []
    assert site.times("call") == {
        **dict.fromkeys(ids("fail", range(150)), 3),
        **dict.fromkeys(ids("ok", range(150)), 1),
    }
    assert len(await site.letters()) == 150


async def test_an_outage_dead_letters_no_event(site: RecordingWorkers) -> None:
    """With two attempts and two restarts during an outage, all events are handled after it."""
    site.pace = PACE
    options = "attempts=2&base=0.2&cap=0.2&concurrency=8"
    await site.append(*ids("ok", range(50)))
    worker = await site.start(options)
    await site.is_done()
    await site.append(*ids("down", range(200)))
    await worker.has_logged("group.paused")
    worker.send(signal.SIGTERM)
    assert await worker.wait_for_end(10) == 0
    worker = await site.start(options)
    await site.append(*ids("down", range(200, 260)))
    await worker.has_logged("group.paused")
    worker.kill()
    worker = await site.start(options)
    await worker.has_logged("group.paused")
    assert await site.letters() == []
    (site.folder / "back").touch()
    await site.is_done(seconds=60)
    assert set(site.times("done")) == {*ids("down", range(260)), *ids("ok", range(50))}
    assert await site.letters() == []


async def test_a_stop_in_an_outage_dead_letters_no_event(site: RecordingWorkers) -> None:
    """If the worker stops during an outage, before the group pauses, all events are handled later."""
    options = "attempts=1&base=0.5&cap=0.5&concurrency=8"
    await site.append(*ids("down", range(200)))
    worker = await site.start(options)
    await becomes(lambda: len(site.times("call")) > 50)
    worker.send(signal.SIGTERM)
    assert await worker.wait_for_end(10) == 0
    assert await site.letters() == []
    (site.folder / "back").touch()
    await site.start(options)
    await site.is_done(seconds=60)
    assert set(site.times("done")) == {*ids("down", range(200))}
    assert await site.letters() == []


async def test_thousands_of_bad_events_do_not_delay_later_ones(site: RecordingWorkers) -> None:
    """Each bad event has its attempt, and the probes with new events resume the group."""
    await site.append(*ids("fail", range(6000)))
    await site.start("base=600&cap=600&concurrency=4")
    await site.append(*ids("ok", range(20)))
    await becomes(lambda: len(site.times("done")) == 20, seconds=180)

    async def do_all_wait() -> bool:
        return bool((await site.group())["retries"] == 6000)

    await site.append_good_until(do_all_wait, seconds=240)


async def test_too_many_dead_letters_pause_a_group(site: RecordingWorkers) -> None:
    """Too many dead letters pause the group until there are fewer, even if an operator resumes it."""
    await site.append(*ids("discard", range(30)))
    worker = await site.start(dead_letters="20")
    await worker.has_logged("group.paused")
    await site.append(*ids("ok", range(20)))
    assert "too many dead letters" in await get(worker, "ready")
    assert f"group '{GROUP}' is resumed; it was paused for: dead-letters" in run(site, "groups", "resume", GROUP)
    await is_paused(site, "dead-letters")
    assert len(site.times("done")) == 0
    await site.server.delete(site.shard.dead(GROUP))
    await site.is_done()
    assert len(site.times("done")) == 20
    assert f"group '{GROUP}' is not paused" in run(site, "groups", "resume", GROUP)


async def test_a_pause_by_hand_ends_only_by_hand(site: RecordingWorkers) -> None:
    """The group makes no call while it is paused, also after its worker restarts, and continues after `resume`."""
    site.pace = PACE
    first = await site.start()
    assert f"group '{GROUP}' is paused" in run(site, "groups", "pause", GROUP, "--why", "receiver is down")
    await first.has_logged("group.paused")
    await site.append(*ids("ok", range(5)))
    first.kill()
    second = await site.start()
    await second.has_logged("group.paused")
    assert "is paused: a person paused it" in await get(second, "ready")
    assert 'ackstream_group_paused{group="recorder",why="operator"} 1.0' in await get(second, "metrics")
    assert "paused: operator (receiver is down)" in " ".join(run(site, "groups", "list").split())
    assert await site.server.pttl(site.shard.paused(GROUP)) == -1
    assert len(site.times("done")) == 0
    assert f"group '{GROUP}' is resumed; it was paused for: operator" in run(site, "groups", "resume", GROUP)
    await site.is_done()
    assert site.times("done") == dict.fromkeys(ids("ok", range(5)), 1)


async def test_one_worker_probes_at_a_time_with_growing_delays(server: Redis, shard: Shard) -> None:
    """One worker probes at a time, only while the group is failing, and with growing delays."""
    pauses = [Pause(GroupRef(server, shard, "g"), 100, chance=lambda: 1.0) for _ in range(3)]
    assert not await pauses[0].take_probe(60, "c")
    await pauses[0].start(PauseReason.FAILING)
    for pause in pauses:
        await pause.refresh()
    await server.hset(shard.alive("g"), "c", "1")
    delays = []
    for _ in range(3):
        await server.hset(shard.paused("g"), "probe", "0")
        assert [await pause.take_probe(60, "c") for pause in pauses] == [True, False, False]
        assert await probe_in(server, shard) > 60
        await pauses[0].note_failed_probe()
        delays.append(await probe_in(server, shard))
    assert delays == [pytest.approx(seconds, abs=0.2) for seconds in (1, 2, 4)]


async def test_a_worker_that_dies_with_its_probe_does_not_delay_the_next(server: Redis, shard: Shard) -> None:
    """The turn of a dead worker ends when its consumer is removed."""
    pause = Pause(GroupRef(server, shard, "g"), 100)
    await pause.start(PauseReason.FAILING)
    await server.hset(shard.paused("g"), "probe", "0")
    await server.hset(shard.alive("g"), "dead", "1")
    assert await pause.take_probe(3600, "dead")
    assert not await pause.take_probe(3600, "c")
    await server.hdel(shard.alive("g"), "dead")
    assert await pause.take_probe(3600, "c")


async def probe_in(server: Redis, shard: Shard) -> float:
    """Return the seconds until the next probe."""
    seconds, microseconds = await server.time()
    return int(await server.hget(shard.paused("g"), "probe") or 0) / 1000 - seconds - microseconds / 1e6


async def test_a_probe_that_is_due_in_hours_is_due(server: Redis, shard: Shard) -> None:
    """A probe that is due in hours, after a clock step, is due now."""
    pause = Pause(GroupRef(server, shard, "g"), 100)
    await pause.start(PauseReason.FAILING)
    await server.hincrby(shard.paused("g"), "probe", 3_600_000)
    assert await pause.take_probe(60, "c")


async def test_a_pause_of_a_later_version_is_obeyed(server: Redis, shard: Shard) -> None:
    """A worker also obeys a pause with a reason that it does not know."""
    await server.hset(shard.paused("g"), "why", "weather")
    pause = Pause(GroupRef(server, shard, "g"), 100)
    await pause.refresh()
    assert (pause.reason, await pause.take_probe(60, "c")) == ("weather", False)
    await pause.end(PauseReason.FAILING)
    await pause.start(PauseReason.FAILING)
    assert pause.reason == "weather"


async def test_gone_stays_until_it_is_resumed(server: Redis, shard: Shard) -> None:
    """The pause ``gone`` replaces other reasons, does not expire, and is not replaced."""
    pause = Pause(GroupRef(server, shard, "g"), 100)
    await pause.start(PauseReason.FAILING)
    await pause.start(PauseReason.GONE)
    assert await server.pttl(shard.paused("g")) == -1
    await pause.start(PauseReason.FAILING)
    await pause.end(PauseReason.FAILING)
    await pause.refresh()
    assert (pause.reason, await pause.take_probe(60, "c"), await server.pttl(shard.paused("g"))) == (
        PauseReason.GONE,
        False,
        -1,
    )
