"""Handlers that stall, hang or die with their worker: what others take over, and how often an event is handled."""

import asyncio
import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.processes import answer, becomes
from tests.recording import Recording, ids, recording
from worker.calls import CANCEL_SECONDS
from worker.liveness import BEAT_SECONDS, DEAD_SECONDS

pytestmark = pytest.mark.crash

# Read here, for in a test the machine's settings are gone.
ROUNDS = int(os.environ.get("ACKSTREAM_CRASH_ROUNDS", "2"))
SEED = int(os.environ.get("ACKSTREAM_CRASH_SEED", "0")) or secrets.randbits(32)

TAKEN_OVER_SECONDS = DEAD_SECONDS + 3 * BEAT_SECONDS + 10
ATTEMPTS = 4


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[Recording]:
    """Workers of a handler that notes its calls."""
    with recording(valkey_url, server, shard, tmp_path) as site:
        yield site


async def test_a_handler_that_blocks_the_loop_is_taken_over_from(site: Recording) -> None:
    """No beat comes from a stalled loop: another handles its entries; back again it settles nothing and goes on."""
    seconds = DEAD_SECONDS + 4 * BEAT_SECONDS
    blocked = await site.start()
    await site.append(f"block-{seconds}-1", *ids("ok", range(20)))
    await becomes((site.folder / "blocked").exists)
    other = await site.start()
    await becomes(lambda: other.logged("liveness.claimed"), seconds=TAKEN_OVER_SECONDS)
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
    await becomes(lambda: other.logged("liveness.claimed"), seconds=CANCEL_SECONDS + TAKEN_OVER_SECONDS)
    (site.folder / "back").touch()
    await hanging.has_logged("consumer.dropped")
    await hanging.is_ready(admin_port)
    await site.is_done()
    assert site.times("call") == {"deaf-1": 2, **dict.fromkeys(ids("ok", range(20)), 1)}
    assert await site.letters() == []


async def test_a_slow_handler_is_not_run_by_a_second_worker(site: Recording) -> None:
    """It takes longer than the time of death, but its worker beats: nobody takes over, and each is called once."""
    seconds = DEAD_SECONDS + 2 * BEAT_SECONDS
    slow = [f"slow-{seconds}-{number}" for number in range(3)]
    await site.start("concurrency=2&timeout=60")
    await site.append(*slow)
    await becomes(lambda: len(site.noted("call")) == 2)
    other = await site.start("concurrency=2&timeout=60")
    await site.append(*ids("ok", range(20)))
    await site.is_done(seconds=3 * seconds)
    assert site.times("call") == dict.fromkeys([*slow, *ids("ok", range(20))], 1)
    assert other.logged("liveness.claimed") == []


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
    await becomes(lambda: sum(count for one, count in site.times("call").items() if one.startswith("fail")) == 400)
    assert {count for one, count in site.times("call").items() if one.startswith(("ok", "hang"))} == {1}
    assert worker.logged("group.paused") == []


async def test_no_event_is_lost_and_no_attempt_too_many_when_workers_die(site: Recording) -> None:
    """Workers are killed at random while events fail by key, in first attempts and in retries.

    Each event reaches the handler; attempts stay within their limit, as they are counted in the copy; whatever was
    called more often than its attempts say was in hand when a worker died.
    """
    print(f"ACKSTREAM_CRASH_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    rng = random.Random(SEED)  # noqa: S311 - no secret
    options = f"base=1&cap=2&attempts={ATTEMPTS}&concurrency=8&batch=50"
    workers = [await site.start(options) for _ in range(3)]
    kinds = ("ok", "slow-0.02", "until-2", "until-3", "fail", "discard")
    sent: list[str] = []
    kills = 3 * ROUNDS
    for number in range(kills):
        some = [f"{kind}-{number}.{one}" for kind in kinds for one in range(40)]
        rng.shuffle(some)  # in a row, those that fail at first would pause the group
        await site.append(*some)
        sent += some
        await asyncio.sleep(rng.uniform(0.2, 2))
        workers.pop(rng.randrange(3)).kill()
        workers.append(await site.start(options))
    await site.is_done(seconds=2 * TAKEN_OVER_SECONDS)
    calls = [(one, int(attempt)) for one, attempt, *_ in site.noted("call")]
    assert {one for one, _ in calls} == set(sent)
    assert max(attempt for _, attempt in calls) == ATTEMPTS
    buried = [one for one, _, _ in await site.letters()]
    assert sorted(buried) == sorted(one for one in sent if one.startswith(("fail", "discard")))
    assert all(count == ATTEMPTS for one, _, count in await site.letters() if one.startswith("fail"))
    repeated = len(calls) - len(set(calls))
    assert repeated <= kills * (50 + 8), "more than was in hand"
