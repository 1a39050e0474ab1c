import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.processes import ackstream, becomes
from tests.support.samples.events import body, entry
from tests.support.waiting import until
from tests.support.workers.recording import GOOD, GROUP, RecordingWorkers, ids, run_recording_workers

QUICK = "base=0.1&cap=0.5&attempts=3"


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[RecordingWorkers]:
    """Yield workers whose handler records its calls."""
    with run_recording_workers(valkey_url, server, shard, tmp_path) as site:
        yield site


async def test_every_outcome_of_a_function_of_one_event(site: RecordingWorkers) -> None:
    """A success is called once, a failure as often as configured, a discarded event never again."""
    kinds = ("ok", "fail", "until", "discard", "retry")
    await site.append(*(name for kind in kinds for name in ids(kind, [2, 3])), "until-9")
    await site.start(QUICK)
    await site.is_done_among_good()
    assert site.times("call") == {
        **dict.fromkeys(("ok-2", "ok-3", "discard-2", "discard-3"), 1),
        **dict.fromkeys(("until-2", "retry-2", "retry-3"), 2),
        **dict.fromkeys(("until-3", "until-9", "fail-2", "fail-3"), 3),
    }
    attempts = sorted((name, int(attempt)) for name, attempt, *_ in site.read_notes("call"))
    assert [attempt for name, attempt in attempts if name == "fail-2"] == [1, 2, 3]
    place = "failed: ValueError at recorder.py:"
    assert [(name, error.rstrip("0123456789"), count) for name, error, count in await site.letters()] == [
        ("discard-2", "discarded: it is of no use", 1),
        ("discard-3", "discarded: it is of no use", 1),
        ("fail-2", f"attempts: {place}", 3),
        ("fail-3", f"attempts: {place}", 3),
        ("until-9", f"attempts: {place}", 3),
    ]
    assert (await site.group())["dead"] == 5
    assert "447700900123" not in site.workers[0].said


async def test_every_outcome_of_a_function_of_lists(site: RecordingWorkers) -> None:
    """A bad event fails its list once; then each event comes alone, and only the bad one is dead-lettered."""
    await site.append("ok-1", "fail-1", "ok-2", "discard-1", "ok-3")
    await site.start(QUICK, function="handle_all")
    await site.is_done_among_good()
    assert site.read_notes("call")[0] == ["ok-1", "fail-1", "ok-2", "discard-1", "ok-3"]
    alone = sorted(words for words in site.read_notes("call")[1:] if not words[0].startswith(GOOD))
    assert alone == [["discard-1"], ["fail-1"], ["fail-1"], ["ok-1"], ["ok-2"], ["ok-3"]]
    assert [(name, count) for name, _, count in await site.letters()] == [("discard-1", 2), ("fail-1", 3)]


async def test_waiting_retries_are_counted(site: RecordingWorkers) -> None:
    """`stats` counts waiting retries, and the metrics of the worker count delayed ones."""
    await site.append("fail-1", "fail-2", "ok-1")
    worker = await site.start("base=3600&cap=3600")

    async def is_set_aside() -> bool:
        return bool((await site.group())["retries"] == 2)

    await until(is_set_aside)
    group = await site.group()
    assert {name: group[name] for name in ("unread", "pending", "dead", "outstanding")} == {
        "unread": 0,
        "pending": 0,
        "dead": 0,
        "outstanding": 2,
    }
    metrics = await text(f"http://127.0.0.1:{worker.read_log('worker.started')[0]['admin_port']}/metrics")
    for line in (
        'ackstream_events_delayed_total{group="recorder"} 2.0',
        'ackstream_events_handled_total{group="recorder"} 1.0',
        'ackstream_handler_failures_total{error="ValueError",group="recorder"} 2.0',
    ):
        assert line in metrics.splitlines()


async def text(url: str) -> str:
    """Return the body of the response to a GET."""
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return await response.text()


async def test_retries_and_letters_keep_the_first_entry(site: RecordingWorkers) -> None:
    """Each copy of an event has the id of its first entry."""
    await site.append("ok-1", "fail-1")
    await site.start(QUICK)
    await site.is_done_among_good()
    entries = {words[3] for words in site.read_notes("call") if words[0] == "fail-1"}
    appended: Any = await site.server.xrange(site.shard.stream)
    assert entries == {f"0/{appended[1][0].decode()}"}
    letters: Any = await site.server.xrange(site.shard.dead(GROUP))
    ((_, letter),) = letters
    assert letter[b"origin"].decode() in entries


async def test_entries_of_the_replay_stream_are_handled_as_replayed(site: RecordingWorkers) -> None:
    """A replayed event has its origin; its copy is deleted once handled, and a retry is still marked as replayed."""
    fields: Any = entry(body(message_uuid="until-2"), replay="r-1", origin="0/5-0").to_fields()
    await site.start(QUICK)
    await site.server.xadd(site.shard.replay(GROUP), fields)
    await becomes(lambda: site.times("done")["until-2"])
    assert site.read_notes("call") == [["until-2", attempt, "True", "0/5-0"] for attempt in ("1", "2")]
    await site.is_done()
    assert await site.server.xlen(site.shard.replay(GROUP)) == 0


async def test_a_deleted_stream_of_copies_is_created_again(site: RecordingWorkers) -> None:
    """If a stream of copies is deleted, the worker creates it again and handles live entries."""
    worker = await site.start()
    for key in (site.shard.retry(GROUP), site.shard.replay(GROUP)):
        await site.server.delete(key)
        await worker.has_logged("consumer.ready", times=len(worker.read_log("consumer.ready")) + 1)
    await site.append("ok-1")
    await site.is_done()
    assert site.times("done") == {"ok-1": 1}


async def test_an_event_that_hangs_holds_up_no_other(site: RecordingWorkers) -> None:
    """While some events do not end, the others of the batch and later ones are handled and settled."""
    await site.append(*ids("hang", range(3)), *ids("ok", range(1500)))
    await site.start("timeout=3600&concurrency=4&batch=200")
    await becomes(lambda: len(site.read_notes("done")) == 1500)
    await site.append("ok-late")
    await becomes(lambda: site.times("done")["ok-late"])

    async def only_those_are_left() -> bool:
        return bool((await site.group())["outstanding"] == 3)

    await until(only_those_are_left)
    assert set(site.times("call").values()) == {1}


async def test_a_timeout_counts_as_an_attempt(site: RecordingWorkers) -> None:
    """An event is cancelled at its timeout and retried; after the last attempt its dead letter names the timeout."""
    await site.append(*ids("hang", range(3)), "ok-1")
    await site.start("timeout=2&base=0&attempts=2")
    await site.is_done_among_good()
    error = "attempts: timeout: not done within 2 s"
    assert await site.letters() == [(name, error, 2) for name in ids("hang", range(3))]
    assert site.times("call") == {**dict.fromkeys(ids("hang", range(3)), 2), "ok-1": 1}


async def test_an_unavailable_target_costs_no_attempt(site: RecordingWorkers) -> None:
    """While the handler raises Unavailable the entries stay pending; then each is handled as a first attempt."""
    await site.append(*ids("away", range(100)))
    worker = await site.start(QUICK)
    await worker.has_logged("handler.unavailable", times=4)
    assert (await site.group())["retries"] == 0
    assert len(site.read_notes("call")) < 60
    (site.folder / "back").touch()
    await site.is_done()
    assert site.times("done") == dict.fromkeys(ids("away", range(100)), 1)
    assert {attempt for _, attempt, *_ in site.read_notes("call")} == {"1"}
    assert await site.letters() == []


async def test_a_stop_finishes_running_calls_and_starts_no_more(site: RecordingWorkers) -> None:
    """After SIGTERM the worker exits with 0, and another handles the events without a call: each is called once."""
    await site.append(*(f"slow-0.5-{number}" for number in range(60)))
    stopping = await site.start("concurrency=4", grace_seconds="4")
    await becomes(lambda: len(site.read_notes("call")) >= 12)
    stopping.send(signal.SIGTERM)
    assert await stopping.wait_for_end(10) == 0
    assert len(site.read_notes("call")) == len(site.read_notes("done")) < 60
    assert await site.server.hgetall(site.shard.alive(GROUP)) == {}
    await site.start("concurrency=60")
    await site.is_done()
    assert set(site.times("call").values()) == {1}
    assert len(site.times("done")) == 60


async def test_a_handler_that_cannot_be_cancelled_does_not_keep_a_worker_alive(site: RecordingWorkers) -> None:
    """At the end of its grace period the worker exits with 0, and leaves the event to others."""
    await site.append("deaf-1", "ok-1")
    worker = await site.start(grace_seconds="1")
    await becomes(lambda: site.times("call")["deaf-1"] and site.times("done")["ok-1"])
    worker.send(signal.SIGTERM)
    assert await worker.wait_for_end(10) == 0
    assert worker.read_log("process.tasks_hang")
    group = await site.group()
    assert (group["pending"], group["unread"], group["dead"]) == (1, 0, 0)


async def test_a_handler_that_cannot_be_loaded_is_refused_at_the_start(site: RecordingWorkers) -> None:
    """A handler that cannot be loaded ends the process with exit code 1 and one sentence."""
    with ackstream("worker", "--handler", "recorder:nothing", folder=site.folder, **site.settings) as worker:
        assert await worker.wait_for_end(20) == 1
        assert "handler 'recorder:nothing': the module 'recorder' has no 'nothing'" in worker.said
        assert "Traceback" not in worker.said


async def test_a_rolling_restart_handles_each_event_once(site: RecordingWorkers) -> None:
    """Four workers are replaced one by one while events arrive: none is lost or called twice.

    bench.scenarios.rolling_restart measures the longest time without a handled event.
    """
    for _ in range(4):
        await site.start()
    number = 0
    for worker in site.workers[:4]:
        for _ in range(40):
            await site.append(*(f"slow-0.01-{number + more}" for more in range(10)))
            number += 10
        worker.send(signal.SIGTERM)
        await site.start()
        assert await worker.wait_for_end(10) == 0
    await site.is_done()
    assert site.times("call") == Counter({f"slow-0.01-{index}": 1 for index in range(number)})
