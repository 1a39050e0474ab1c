from collections.abc import Callable
from random import Random

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.fake_clock import FakeClock
from tests.support.samples.events import body, event
from tests.support.workers.parts import make_parts
from worker.dispatch.call import Call, Limits
from worker.dispatch.circuit_breaker import (
    FAILURES_TO_A_SUCCESS,
    FEW_CALLS,
    FEW_SUCCESSES,
    LIST_WEIGHT,
    MANY_FAILURES,
    CircuitBreaker,
)
from worker.handlers.function import SingleEventFunction
from worker.sources import Source
from worker.timing import TIMING


def note(breaker: CircuitBreaker, outcomes: str, events: int = 1) -> None:
    """Take in calls, of which those marked with an x failed."""
    for outcome in outcomes:
        breaker.record(failed=outcome == "x", events=events)


def trips(before: str, outcomes: str, events: int = 1, *, after: str = "", seconds: float = TIMING.trip) -> bool:
    """Whether it has tripped after these, some time, and those."""
    clock = FakeClock()
    breaker = CircuitBreaker(clock)
    note(breaker, before)
    note(breaker, outcomes, events)
    clock.now += seconds
    note(breaker, after)
    return breaker.is_tripped


@pytest.mark.parametrize("before", ["", "." * 1000, ".x" * 500 + "."])
def test_it_trips_when_many_failed_and_nothing_succeeded_for_some_time(before: str) -> None:
    """Whatever was before; not sooner, not for fewer, and not if some succeed."""
    many = "x" * MANY_FAILURES
    assert trips(before, many)
    assert not trips(before, many, seconds=TIMING.trip - 0.1)
    assert not trips(before, many[1:])
    assert not trips(before, many, after=".")
    assert MANY_FAILURES <= 50


def test_one_success_in_many_failures_changes_nothing() -> None:
    """Nearly everything fails then, too."""
    assert trips("", "x" * FAILURES_TO_A_SUCCESS + ".")
    assert not trips("", "x" * FAILURES_TO_A_SUCCESS + "..")
    assert trips("", ("x" * FAILURES_TO_A_SUCCESS + "." * (FEW_SUCCESSES - 1)) * 9 + "x" * 1000)


def test_a_few_successes_in_a_row_show_that_all_is_well() -> None:
    """However many have failed before."""
    assert not trips("", "x" * 5000 + "." * FEW_SUCCESSES)
    assert trips("", "x" * 5000 + "." * (FEW_SUCCESSES - 1) + "x." * 9)


def test_it_trips_when_a_few_calls_failed_over_all_that_time() -> None:
    """Whoever gets an event a second must not wait for many; a few that failed together say nothing."""
    assert trips(".", "x" * (FEW_CALLS - 1), after="x")
    assert not trips(".", "x" * (FEW_CALLS - 2), after="x")
    assert not trips(".", "x" * (MANY_FAILURES - 1))
    assert TIMING.trip < 5


def test_a_list_that_failed_speaks_for_some_of_its_events_only() -> None:
    """One event spoils a list: so it takes more than one or two of them."""
    lists = "x" * (MANY_FAILURES // LIST_WEIGHT)
    assert not trips("", lists, events=1000)
    assert trips("", lists + "x", events=1000)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_it_does_not_trip_for_events_that_fail_by_key(share: float) -> None:
    """However many of them there are, as long as some succeed all the time."""
    chance: Callable[[], float] = Random(1).random  # noqa: S311 - no secret
    clock = FakeClock()
    breaker = CircuitBreaker(clock)
    for _ in range(20_000):
        clock.now += 0.01
        breaker.record(failed=chance() < share, events=1)
        assert not breaker.is_tripped


@pytest.mark.parametrize("seconds", [720, 60, 0.8])
def test_a_quiet_group_with_a_few_bad_events_never_trips_it(seconds: float) -> None:
    """Five an hour, one a minute, or five within seconds and nothing else: they have their attempts."""
    clock = FakeClock()
    breaker = CircuitBreaker(clock)
    for number in range(200):
        breaker.record(failed=True, events=1)
        assert not breaker.is_tripped
        clock.now += 100 if number % 5 == 4 else seconds
        assert not breaker.is_tripped


def test_a_failure_of_long_ago_does_not_count() -> None:
    """Many failures in one moment are told from an outage by their time, whatever failed an hour before."""
    clock = FakeClock()
    breaker = CircuitBreaker(clock)
    note(breaker, "x")
    clock.now += 3600
    note(breaker, "x" * (MANY_FAILURES - 1))
    assert not breaker.is_tripped


async def test_what_may_never_succeed_says_nothing(server: Redis, shard: Shard) -> None:
    """Retries, and dead letters that are replayed; of other replays the first attempts count like live ones."""
    assert await trips_for(server, shard, Source.LIVE, 1)
    assert await trips_for(server, shard, Source.REPLAY, 1)
    assert not await trips_for(server, shard, Source.RETRY, 2)
    assert not await trips_for(server, shard, Source.REPLAY, 1, dead=True)


async def trips_for(server: Redis, shard: Shard, source: Source, attempt: int, *, dead: bool = False) -> bool:
    """Whether the group pauses after many calls that failed, each with an entry of this kind."""
    clock = FakeClock()
    parts = make_parts(server, shard, SingleEventFunction(_nothing, 60), limits=Limits(judged_attempts=1), clock=clock)
    failed = event(body(), attempt=attempt - 1 or None)
    flat = [b"error", b"failed: ValueError"] if dead else []
    for _ in range(2):
        for _ in range(MANY_FAILURES):
            parts.circuit.record(Call(source, [(b"1-0", flat)], [failed], started=clock.now, error=ValueError()))
        clock.now += TIMING.trip
    await parts.circuit.apply()
    paused = parts.pause.reason is not None
    await server.delete(shard.paused("g"))
    return paused


async def _nothing(_event: object) -> None:
    """Handle an event."""
