"""Handlers that stall, hang or die with their worker: what others take over, and how often an event is handled."""

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
from tests.support.workers.recording import GROUP, Recording, copied, ids, recording, replay
from worker import timing
from worker.dispatch.circuit_breaker import FEW_CALLS
from worker.dispatch.dispatcher import CANCEL_SECONDS

pytestmark = pytest.mark.crash

# Read here, for in a test the machine's settings are gone.
ROUNDS = int(os.environ.get("ACKSTREAM_CRASH_ROUNDS", "1"))
SEED = int(os.environ.get("ACKSTREAM_CRASH_SEED", "0")) or secrets.randbits(32)

PACE = 0.3
TIMING = timing.TIMING.scale(PACE)
TAKEN_OVER_SECONDS = TIMING.dead + 3 * TIMING.beat + 10
ATTEMPTS = 4
KINDS = ("ok", "slow-0.02", "until-2", "until-3", "fail", "discard")


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[Recording]:
    """Workers of a handler that notes its calls."""
    with recording(valkey_url, server, shard, tmp_path, PACE) as site:
        yield site


async def test_a_handler_that_blocks_the_loop_is_taken_over_from(site: Recording) -> None:
    """No beat comes from a stalled loop: another handles its entries; back again it settles nothing and goes on."""
    seconds = TIMING.dead + 4 * TIMING.beat + 2  # in which the other one starts
    blocked = await site.start()
    await site.append(f"block-{seconds}-1", *ids("ok", range(20)))
    await becomes((site.folder / "blocked").exists)
    other = await site.start()
    await becomes(lambda: other.logged("heartbeat.claimed"), seconds=2 * TAKEN_OVER_SECONDS)
    await blocked.has_logged("consumer.dropped")
    await site.append("ok-last")
    await site.is_done()
    assert set(site.times("done")) == {f"block-{seconds}-1", *ids("ok", range(20)), "ok-last"}
    assert max(site.times("call").values()) == 2
    assert await site.letters() == []


async def test_a_handler_that_hangs_is_taken_over_from(site: Recording) -> None:
    """Its time is over and it goes on: its worker says so, beats and reads no more, and another has its entries."""
    hanging = await site.start("timeout=0.5")
    await site.append("deaf-1")
    await becomes(lambda: site.times("call")["deaf-1"])
    other = await site.start("timeout=60")
    await hanging.has_logged("consumer.hangs")
    admin_port = hanging.logged("worker.started")[0]["admin_port"]
    assert await answer(f"http://127.0.0.1:{admin_port}/ready") == 503
    await site.append(*ids("ok", range(20)))
    await becomes(lambda: other.logged("heartbeat.claimed"), seconds=CANCEL_SECONDS + TAKEN_OVER_SECONDS)
    (site.folder / "back").touch()
    await hanging.has_logged("consumer.dropped")
    await hanging.is_ready(admin_port)
    await site.is_done()
    assert site.times("call") == {"deaf-1": 2, **dict.fromkeys(ids("ok", range(20)), 1)}
    assert await site.letters() == []


async def test_a_slow_handler_is_not_run_by_a_second_worker(site: Recording) -> None:
    """It takes longer than the time of death, but its worker beats: nobody takes over, and each is called once."""
    seconds = TIMING.dead + 2 * TIMING.beat
    slow = [f"slow-{seconds}-{number}" for number in range(3)]
    await site.start("concurrency=2&timeout=60")
    await site.append(*slow)
    await becomes(lambda: len(site.noted("call")) == 2)
    other = await site.start("concurrency=2&timeout=60")
    await site.append(*ids("ok", range(20)))
    await site.is_done(seconds=3 * seconds)
    assert site.times("call") == dict.fromkeys([*slow, *ids("ok", range(20))], 1)
    assert other.logged("heartbeat.claimed") == []


async def test_failing_and_hanging_events_hold_up_no_others(site: Recording) -> None:
    """Among many that succeed, those that fail and hang by key have just their attempts, and all others are handled.

    So that no clock is needed to see it, the hanging ones do not end before the others have.
    """
    options = "attempts=2&base=0.5&cap=0.5&timeout=600&concurrency=8"
    good = ids("ok", range(2000))
    sent = [*good, *ids("fail", range(200)), *ids("hang", range(4))]
    random.Random(SEED).shuffle(sent)  # noqa: S311 - no secret
    worker = await site.start(options)
    await site.append(*sent)
    await becomes(lambda: len(site.times("done")) == len(good), seconds=60)
    while len(await site.letters()) < 200:
        assert len(good) < 4000
        good.append(f"ok-{len(good)}")
        await site.append(good[-1])
        await asyncio.sleep(0.05)
    assert sum(count for one, count in site.times("call").items() if one.startswith("fail")) == 400
    assert {count for one, count in site.times("call").items() if one.startswith(("ok", "hang"))} == {1}
    assert worker.logged("group.paused") == []


async def test_no_event_is_lost_and_no_attempt_too_many_when_workers_die(site: Recording) -> None:
    """Workers are killed at random while events fail by key, in first attempts, in retries and in a replay.

    Each event reaches the handler; no attempt is beyond the limit, and what is given up has had just so many; an
    attempt is made twice only of what a worker had in hand when it was killed, and the last one while none succeed.
    """
    print(f"ACKSTREAM_CRASH_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    rng = random.Random(SEED)  # noqa: S311 - no secret
    options = f"base=1&cap=2&attempts={ATTEMPTS}&concurrency=8&batch=50"
    for _ in range(3):
        await site.start(options)
    sent: dict[bool, list[str]] = {False: [], True: []}
    in_hand: set[str] = set()
    kills = 3 * ROUNDS
    for number in range(kills):
        some = [f"{kind}-{number}.{one}" for kind in KINDS for one in range(40)]
        rng.shuffle(some)  # in a row, those that fail at first would pause the group
        await site.append(*some)
        sent[False] += some
        if number == kills // 2:
            sent[True] += sent[False]
            replay_id = await replay(site.server, site.shard, GROUP, rate=len(sent[True]) / kills)
        await asyncio.sleep(rng.uniform(0.2, 2))
        in_hand |= await site.kill(rng.choice(site.workers))
        await site.start(options)

    async def little_is_left() -> bool:
        """Others succeed meanwhile: those alone that fail would pause the group, and then be handled again."""
        sent[False].append(f"ok-{len(sent[False])}")
        await site.append(sent[False][-1])
        group = await site.group()
        all_is_copied = await copied(site.server, site.shard, GROUP, replay_id) == len(sent[True])
        return all_is_copied and not group["retries"] and not group["replays"] and group["pending"] < FEW_CALLS

    await until(little_is_left, seconds=2 * TAKEN_OVER_SECONDS + 2 * kills)
    await site.is_done(seconds=2 * TAKEN_OVER_SECONDS)
    for replayed, meant in sent.items():
        calls = [
            (one, int(attempt), entry) for one, attempt, again, entry in site.noted("call") if again == str(replayed)
        ]
        assert {one for one, _, _ in calls} == set(meant)
        assert max(attempt for _, attempt, _ in calls) == ATTEMPTS
        again = {entry for (_, attempt, entry), times in Counter(calls).items() if times > 1 and attempt < ATTEMPTS}
        assert again <= in_hand
    letters = await site.letters()
    given_up = [one for meant in sent.values() for one in meant if one.startswith(("fail", "discard"))]
    assert [one for one, _, _ in letters] == sorted(given_up)
    assert all(count == ATTEMPTS for one, _, count in letters if one.startswith("fail"))
