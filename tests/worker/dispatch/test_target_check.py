"""The check of a handler's target, while the group has no call."""

import asyncio
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.fake_clock import FakeClock
from tests.support.streams.pending import make_group
from tests.support.workers.gated_handler import GatedHandler, make_call, run_until_idle
from tests.support.workers.parts import Parts, make_parts
from worker.dispatch.target_check import TargetCheck
from worker.handlers.errors import Unavailable
from worker.timing import TIMING


class Target:
    """A target that counts its checks; it raises ``error``, and does not answer while ``is_frozen``."""

    def __init__(self) -> None:
        self.checks = 0
        self.error: Exception | None = None
        self.is_frozen = False

    async def check(self) -> None:
        self.checks += 1
        if self.is_frozen:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture(params=[True])
async def parts(request: pytest.FixtureRequest, server: Redis, shard: Shard, clock: FakeClock, target: Target) -> Parts:
    """Return a group whose handler has a target with a check, on the shard that repeats it or on another one."""
    await make_group(server, shard, 0)
    timing, handler = replace(TIMING, late=1e9, quiet=0.5), GatedHandler()
    handler.errors["away"] = Unavailable()
    check = target.check
    parts = make_parts(server, shard, handler, clock=clock, timing=timing, check=check, repeats=request.param)
    await parts.heartbeat.announce()
    return parts


async def test_a_group_is_ready_after_the_first_check_or_call(parts: Parts) -> None:
    """Before, nothing is known about the target."""
    assert "waits for its target" in (parts.circuit.not_ready_reason or "")
    parts.dispatcher.put(make_call("a"))
    await run_until_idle(parts.dispatcher)
    assert parts.circuit.not_ready_reason is None


async def test_only_a_quiet_group_is_checked(parts: Parts, clock: FakeClock, target: Target) -> None:
    """A group that has calls, or had some a moment ago, is not checked."""
    await parts.dispatcher.check_target()
    await parts.dispatcher.check_target()
    assert target.checks == 1
    clock.now += 1
    parts.dispatcher.put(make_call("a"))
    clock.now += 1
    await parts.dispatcher.check_target()
    await run_until_idle(parts.dispatcher)
    await parts.dispatcher.check_target()
    assert target.checks == 1
    clock.now += 1
    await parts.dispatcher.check_target()
    assert target.checks == 2


@pytest.mark.parametrize("error", [Unavailable("gone fishing"), ValueError("a fault of the check")])
async def test_a_failed_check_holds_up_no_call(
    parts: Parts, clock: FakeClock, target: Target, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """The group is not ready until a check or a call succeeds; the log has one line, and a call starts at once."""
    target.error = error
    for _ in range(3):
        clock.now += 1
        await parts.dispatcher.check_target()
    await parts.dispatcher.cancel()  # as after a fault of Redis
    assert "waits for its target" in (parts.circuit.not_ready_reason or "")
    assert parts.circuit.can_start
    assert capsys.readouterr().out.count("handler.unavailable") == 1
    clock.now += 1
    target.error = None
    await parts.dispatcher.check_target()
    assert parts.circuit.not_ready_reason is None


@pytest.mark.parametrize("parts", [True, False], indirect=True, ids=["first shard", "another shard"])
async def test_a_target_is_checked_again_at_once_after_its_calls_are_dropped(parts: Parts, target: Target) -> None:
    """A group whose calls found the target away is not ready before that, although none of them waits any more."""
    parts.dispatcher.put(make_call("away"))
    await parts.dispatcher.step()
    assert "waits for its target" in (parts.circuit.not_ready_reason or "")

    await parts.dispatcher.cancel()  # as after a fault of Redis
    assert "waits for its target" in (parts.circuit.not_ready_reason or "")
    await parts.dispatcher.check_target()

    assert (parts.circuit.not_ready_reason, target.checks) == (None, 1)


@pytest.mark.parametrize("parts", [False], indirect=True)
async def test_another_shard_is_checked_until_the_target_is_back(
    parts: Parts, clock: FakeClock, target: Target
) -> None:
    """Without dropped calls that waited for the target it is not checked: the first shard checks it for all."""
    await parts.dispatcher.check_target()
    await parts.dispatcher.cancel()
    await parts.dispatcher.check_target()
    assert (parts.circuit.not_ready_reason, target.checks) == (None, 0)
    parts.dispatcher.put(make_call("away"))
    await parts.dispatcher.step()
    target.error = Unavailable()
    for _ in range(2):
        await parts.dispatcher.cancel()
        await parts.dispatcher.check_target()
    assert "waits for its target" in (parts.circuit.not_ready_reason or "")

    target.error = None
    for _ in range(3):
        clock.now += 1
        await parts.dispatcher.check_target()

    assert (parts.circuit.not_ready_reason, target.checks) == (None, 3)


async def test_an_event_ends_a_check(parts: Parts, target: Target) -> None:
    """The call does not wait for a check, and its result counts."""
    target.is_frozen = True
    check = asyncio.create_task(parts.dispatcher.check_target())
    await asyncio.sleep(0)
    parts.dispatcher.put(make_call("a"))
    await run_until_idle(parts.dispatcher)
    await check
    assert parts.circuit.not_ready_reason is None


async def test_a_check_without_an_answer_ends(parts: Parts, target: Target) -> None:
    """A target that takes connections and does not answer is away."""
    target.is_frozen = True
    await TargetCheck(target.check, [parts.circuit], limit_seconds=0.05).run()
    assert "waits for its target" in (parts.circuit.not_ready_reason or "")
    assert target.checks == 1


async def test_the_metric_says_that_calls_wait_for_the_target(server: Redis, shard: Shard) -> None:
    """The gauge is 0 after all calls of one shard are dropped, and 1 again after the next call on another shard."""
    dropping, waiting = (make_parts(server, shard, GatedHandler()).circuit for _ in range(2))
    call = make_call("a")
    call.error = Unavailable()

    dropping.record(call)
    waiting.record(call)
    dropping.drop()
    values = [read_target_away()]
    waiting.record(call)
    values.append(read_target_away())

    assert values == [0, 1]


def read_target_away() -> float | None:
    return REGISTRY.get_sample_value("ackstream_target_away", {"group": "g"})
