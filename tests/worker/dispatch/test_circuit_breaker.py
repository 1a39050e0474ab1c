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
    """Record calls: an x is a failed one."""
    for outcome in outcomes:
        breaker.record(failed=outcome == "x", events=events)


def trips(before: str, outcomes: str, events: int = 1, *, after: str = "", seconds: float = TIMING.trip) -> bool:
    """Return whether the breaker is tripped after these calls, some time, and further calls."""
    clock = FakeClock()
    breaker = CircuitBreaker(clock)
    note(breaker, before)
    note(breaker, outcomes, events)
    clock.now += seconds
    note(breaker, after)
    return breaker.is_tripped


@pytest.mark.parametrize("before", ["", "." * 1000, ".x" * 500 + "."])
def test_many_failures_without_success_trip_it(before: str) -> None:
    """The breaker trips after any history, but not sooner, not after fewer failures, and not if some calls succeed."""
    many = "x" * MANY_FAILURES
    assert trips(before, many)
    assert not trips(before, many, seconds=TIMING.trip - 0.1)
    assert not trips(before, many[1:])
    assert not trips(before, many, after=".")
    assert MANY_FAILURES <= 50


def test_one_success_in_many_failures_changes_nothing() -> None:
    """The breaker still trips after one success among many failures."""
    assert trips("", "x" * FAILURES_TO_A_SUCCESS + ".")
    assert not trips("", "x" * FAILURES_TO_A_SUCCESS + "..")
    assert trips("", ("x" * FAILURES_TO_A_SUCCESS + "." * (FEW_SUCCESSES - 1)) * 9 + "x" * 1000)


def test_a_few_successes_in_a_row_reset_it() -> None:
    """Five successes in a row reset the breaker after any number of failures."""
    assert not trips("", "x" * 5000 + "." * FEW_SUCCESSES)
    assert trips("", "x" * 5000 + "." * (FEW_SUCCESSES - 1) + "x." * 9)


def test_a_few_failures_over_the_whole_time_trip_it() -> None:
    """A group with one event a second trips it after a few failures; a few failures at the same time do not."""
    assert trips(".", "x" * (FEW_CALLS - 1), after="x")
    assert not trips(".", "x" * (FEW_CALLS - 2), after="x")
    assert not trips(".", "x" * (MANY_FAILURES - 1))
    assert TIMING.trip < 5


def test_a_failed_list_counts_as_a_few_calls() -> None:
    """One bad event fails its list, so one or two failed lists do not trip the breaker."""
    lists = "x" * (MANY_FAILURES // LIST_WEIGHT)
    assert not trips("", lists, events=1000)
    assert trips("", lists + "x", events=1000)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_it_does_not_trip_for_events_that_fail_by_key(share: float) -> None:
    """Any number of bad events does not trip it while other calls succeed."""
    chance: Callable[[], float] = Random(1).random  # noqa: S311 - no secret
    clock = FakeClock()
    breaker = CircuitBreaker(clock)
    for _ in range(20_000):
        clock.now += 0.01
        breaker.record(failed=chance() < share, events=1)
        assert not breaker.is_tripped


@pytest.mark.parametrize("seconds", [720, 60, 0.8])
def test_a_quiet_group_with_a_few_bad_events_never_trips_it(seconds: float) -> None:
    """Five failures an hour, one a minute, or five within seconds do not trip it."""
    clock = FakeClock()
    breaker = CircuitBreaker(clock)
    for number in range(200):
        breaker.record(failed=True, events=1)
        assert not breaker.is_tripped
        clock.now += 100 if number % 5 == 4 else seconds
        assert not breaker.is_tripped


def test_an_old_failure_does_not_count() -> None:
    """Many failures at one moment do not trip it because of a failure an hour ago."""
    clock = FakeClock()
    breaker = CircuitBreaker(clock)
    note(breaker, "x")
    clock.now += 3600
    note(breaker, "x" * (MANY_FAILURES - 1))
    assert not breaker.is_tripped


async def test_later_retries_and_replayed_dead_letters_do_not_count(server: Redis, shard: Shard) -> None:
    """Later retries and replayed dead letters do not count; first attempts of other replays do."""
    assert await trips_for(server, shard, Source.LIVE, 1)
    assert await trips_for(server, shard, Source.REPLAY, 1)
    assert not await trips_for(server, shard, Source.RETRY, 2)
    assert not await trips_for(server, shard, Source.REPLAY, 1, dead=True)


async def trips_for(server: Redis, shard: Shard, source: Source, attempt: int, *, dead: bool = False) -> bool:
    """Return whether the group pauses after many failed calls with such an entry."""
    clock = FakeClock()
    parts = make_parts(
        server, shard, SingleEventFunction(_do_nothing, 60), limits=Limits(judged_attempts=1), clock=clock
    )
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


async def _do_nothing(_event: object) -> None:
    """Handle an event."""
