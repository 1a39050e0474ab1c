"""Handlers that stall, hang or die with their worker: other workers claim the entries, with few repeats."""

import asyncio
import os
import random
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.processes import answer, becomes
from tests.support.waiting import until
from tests.support.workers.recording import GROUP, RecordingWorkers, count_copies, ids, replay, run_recording_workers
from worker import timing
from worker.dispatch.circuit_breaker import FEW_CALLS
from worker.dispatch.dispatcher import CANCEL_SECONDS

pytestmark = pytest.mark.crash

# Read at import, because tests run without the machine's environment variables.
ROUNDS = int(os.environ.get("ACKSTREAM_CRASH_ROUNDS", "1"))
SEED = int(os.environ.get("ACKSTREAM_CRASH_SEED", "0")) or secrets.randbits(32)

PACE = 0.3
TIMING = timing.TIMING.scale(PACE)
TAKEN_OVER_SECONDS = TIMING.dead + 3 * TIMING.beat + 10
ATTEMPTS = 4
KINDS = ("ok", "slow-0.02", "until-2", "until-3", "fail", "discard")


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[RecordingWorkers]:
    """Yield workers whose handler records its calls."""
    with run_recording_workers(valkey_url, server, shard, tmp_path, PACE) as site:
        yield site


async def test_the_entries_of_a_blocked_worker_are_claimed(site: RecordingWorkers) -> None:
    """A stalled loop sends no heartbeat, so another worker claims the entries; the first one then settles none."""
    seconds = TIMING.dead + 4 * TIMING.beat + 2  # time for the second worker to start
    blocked = await site.start()
    await site.append(f"block-{seconds}-1", *ids("ok", range(20)))
    await becomes((site.folder / "blocked").exists)
    second = await site.start()
    await becomes(lambda: second.read_log("heartbeat.claimed"), seconds=2 * TAKEN_OVER_SECONDS)
    await blocked.has_logged("consumer.dropped")
    await site.append("ok-last")
    await site.is_done()
    assert set(site.times("done")) == {f"block-{seconds}-1", *ids("ok", range(20)), "ok-last"}
    assert max(site.times("call").values()) == 2
    assert await site.letters() == []


async def test_the_entries_of_a_hanging_handler_are_claimed(site: RecordingWorkers) -> None:
    """If a call outlives its timeout, its worker logs it and stops its heartbeat; another worker claims the entries."""
    hanging = await site.start("timeout=0.5")
    await site.append("deaf-1")
    await becomes(lambda: site.times("call")["deaf-1"])
    second = await site.start("timeout=60")
    await hanging.has_logged("consumer.hangs")
    admin_port = hanging.read_log("worker.started")[0]["admin_port"]
    assert await answer(f"http://127.0.0.1:{admin_port}/ready") == 503
    await site.append(*ids("ok", range(20)))
    await becomes(lambda: second.read_log("heartbeat.claimed"), seconds=CANCEL_SECONDS + TAKEN_OVER_SECONDS)
    (site.folder / "back").touch()
    await hanging.has_logged("consumer.dropped")
    await hanging.is_ready(admin_port)
    await site.is_done()
    assert site.times("call") == {"deaf-1": 2, **dict.fromkeys(ids("ok", range(20)), 1)}
    assert await site.letters() == []


async def test_a_slow_call_is_not_repeated_by_a_second_worker(site: RecordingWorkers) -> None:
    """A call longer than ``Timing.dead`` is not repeated, because its worker sends heartbeats."""
    seconds = TIMING.dead + 2 * TIMING.beat
    slow = [f"slow-{seconds}-{number}" for number in range(3)]
    await site.start("concurrency=2&timeout=60")
    await site.append(*slow)
    await becomes(lambda: len(site.read_notes("call")) == 2)
    second = await site.start("concurrency=2&timeout=60")
    await site.append(*ids("ok", range(20)))
    await site.is_done(seconds=3 * seconds)
    assert site.times("call") == dict.fromkeys([*slow, *ids("ok", range(20))], 1)
    assert second.read_log("heartbeat.claimed") == []


async def test_failing_and_hanging_events_hold_up_no_others(site: RecordingWorkers) -> None:
    """Bad and hanging events have their attempts and no more, and all other events are handled.

    The hanging events end only after the others have, so the test needs no clock.
    """
    options = "attempts=2&base=0.5&cap=0.5&timeout=600&concurrency=8"
    good = ids("ok", range(2000))
    sent = [*good, *ids("fail", range(200)), *ids("hang", range(4))]
    random.Random(SEED).shuffle(sent)  # noqa: S311 - no secret
    worker = await site.start(options)
    await site.append(*sent)
    await becomes(lambda: len(site.times("done")) == len(good), seconds=60)

    async def are_all_dead() -> bool:
        return len(await site.letters()) == 200

    await site.append_good_until(are_all_dead, seconds=120)
    attempts = Counter(attempt for name, attempt, *_ in site.read_notes("call") if name.startswith("fail"))
    assert (attempts["1"], set(attempts)) == (200, {"1", "2"})
    assert {count for _, _, count in await site.letters()} == {2}
    assert {count for name, count in site.times("call").items() if name.startswith(("ok", "hang"))} == {1}
    assert worker.read_log("group.paused") == []


async def test_no_event_is_lost_and_no_attempt_too_many_when_workers_die(site: RecordingWorkers) -> None:
    """Workers are killed at random while some events fail, at first attempts, in retries and in a replay.

    Each event reaches the handler. No event has more attempts than the limit, and each dead letter has exactly that
    number. An attempt is repeated only if its worker was killed, and the last one while no call succeeds.
    """
    print(f"ACKSTREAM_CRASH_SEED={SEED}")  # noqa: T201 - pytest prints it for a failed test
    rng = random.Random(SEED)  # noqa: S311 - no secret
    options = f"base=1&cap=2&attempts={ATTEMPTS}&concurrency=8&batch=50"
    for _ in range(3):
        await site.start(options)
    sent: dict[bool, list[str]] = {False: [], True: []}
    in_hand: set[str] = set()
    kills = 3 * ROUNDS
    for number in range(kills):
        names = [f"{kind}-{number}.{index}" for kind in KINDS for index in range(40)]
        rng.shuffle(names)  # in order, the failing events would pause the group
        await site.append(*names)
        sent[False] += names
        if number == kills // 2:
            sent[True] += sent[False]
            replay_id = await replay(site.server, site.shard, GROUP, rate=len(sent[True]) / kills)
        await asyncio.sleep(rng.uniform(0.2, 2))
        in_hand |= await site.kill(rng.choice(site.workers))
        await site.start(options)

    async def little_is_left() -> bool:
        """Other events succeed at the same time, because failures alone would pause the group."""
        sent[False].append(f"ok-{len(sent[False])}")
        await site.append(sent[False][-1])
        group = await site.group()
        all_is_copied = await count_copies(site.server, site.shard, GROUP, replay_id) == len(sent[True])
        return all_is_copied and not group["retries"] and not group["replays"] and group["pending"] < FEW_CALLS

    await until(little_is_left, seconds=2 * TAKEN_OVER_SECONDS + 2 * kills)
    await site.is_done(seconds=2 * TAKEN_OVER_SECONDS)
    for replayed, expected in sent.items():
        calls = [
            (name, int(attempt), entry)
            for name, attempt, again, entry in site.read_notes("call")
            if again == str(replayed)
        ]
        assert {name for name, _, _ in calls} == set(expected)
        assert max(attempt for _, attempt, _ in calls) == ATTEMPTS
        again = {entry for (_, attempt, entry), times in Counter(calls).items() if times > 1 and attempt < ATTEMPTS}
        assert again <= in_hand
    letters = await site.letters()
    given_up = [name for expected in sent.values() for name in expected if name.startswith(("fail", "discard"))]
    assert [name for name, _, _ in letters] == sorted(given_up)
    assert all(count == ATTEMPTS for name, _, count in letters if name.startswith("fail"))
