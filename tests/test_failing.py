from collections.abc import Callable
from random import Random

import pytest

from tests.events import body, event
from worker.consumer.fetch_plan import Source
from worker.dispatch.call import Call, Limits
from worker.dispatch.circuit_breaker import (
    FAILURES_TO_A_SUCCESS,
    FEW_CALLS,
    HELD_SECONDS,
    LIST_WEIGHT,
    MANY_FAILURES,
    SOON_SECONDS,
    Breaker,
)
from worker.dispatch.doubt import MOST_HELD, Doubt


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def note(breaker: Breaker, outcomes: str, events: int = 1) -> None:
    """Take in calls, of which those marked with an x failed."""
    for outcome in outcomes:
        breaker.note(failed=outcome == "x", events=events)


def trips(before: str, outcomes: str, events: int = 1, *, after: str = "", seconds: float = SOON_SECONDS) -> bool:
    """Whether it has tripped after these, some time, and those."""
    clock = Clock()
    breaker = Breaker(clock)
    note(breaker, before)
    note(breaker, outcomes, events)
    clock.now += seconds
    note(breaker, after)
    return breaker.tripped


@pytest.mark.parametrize("before", ["", "." * 1000, ".x" * 500 + "."])
def test_it_trips_when_many_failed_and_nothing_succeeded_for_some_time(before: str) -> None:
    """Whatever was before; not sooner, not for fewer, and not if some succeed."""
    many = "x" * MANY_FAILURES
    assert trips(before, many)
    assert not trips(before, many, seconds=SOON_SECONDS - 0.1)
    assert not trips(before, many[1:])
    assert not trips(before, many, after=".")
    assert MANY_FAILURES <= 50


def test_one_success_in_many_failures_changes_nothing() -> None:
    """Nearly everything fails then, too."""
    assert trips("", "x" * FAILURES_TO_A_SUCCESS + ".")
    assert not trips("", "x" * FAILURES_TO_A_SUCCESS + "..")
    assert trips("", ("x" * FAILURES_TO_A_SUCCESS + "." * (FEW_CALLS - 1)) * 9 + "x" * 1000)


def test_a_few_successes_in_a_row_show_that_all_is_well() -> None:
    """However many have failed before."""
    assert not trips("", "x" * 5000 + "." * FEW_CALLS)
    assert trips("", "x" * 5000 + "." * (FEW_CALLS - 1) + "x." * 9)


def test_it_trips_when_a_few_calls_failed_over_all_that_time() -> None:
    """Whoever gets an event a second must not wait for many; a few that failed together say nothing."""
    assert trips(".", "x" * (FEW_CALLS - 1), after="x")
    assert not trips(".", "x" * (FEW_CALLS - 2), after="x")
    assert not trips(".", "x" * (MANY_FAILURES - 1))
    assert SOON_SECONDS < 5


def test_a_list_that_failed_speaks_for_some_of_its_events_only() -> None:
    """One event spoils a list: so it takes more than one or two of them."""
    lists = "x" * (MANY_FAILURES // LIST_WEIGHT)
    assert not trips("", lists, events=1000)
    assert trips("", lists + "x", events=1000)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_it_does_not_trip_for_events_that_fail_by_key(share: float) -> None:
    """However many of them there are, as long as some succeed all the time."""
    chance: Callable[[], float] = Random(1).random  # noqa: S311 - no secret
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(20_000):
        clock.now += 0.01
        breaker.note(failed=chance() < share, events=1)
        assert not breaker.tripped


def test_a_failure_is_doubtful_until_it_is_clear_what_is_at_fault() -> None:
    """For some seconds, unless another call succeeds."""
    clock = Clock()
    breaker = Breaker(clock)
    assert not breaker.doubtful(clock.now)
    note(breaker, "x")
    ended = clock.now
    clock.now += HELD_SECONDS - 0.1
    assert breaker.doubtful(ended)
    clock.now += 0.1
    assert not breaker.doubtful(ended)
    note(breaker, "x.")
    assert not breaker.doubtful(clock.now)


def trips_for(source: Source, attempt: int, *, given_up: bool = False) -> bool:
    """Whether it has tripped after many calls that failed, each with an entry of this kind."""
    clock = Clock()
    doubt = Doubt(Limits(judged_attempts=1), clock)
    failed = event(body(), attempt=attempt - 1 or None)
    flat = [b"error", b"failed: ValueError"] if given_up else []
    for _ in range(MANY_FAILURES):
        doubt.add(Call(source, [(b"1-0", flat)], [failed], began=clock.now, error=ValueError()), counts=True)
    clock.now += SOON_SECONDS
    return doubt.tripped


def test_what_may_never_succeed_says_nothing() -> None:
    """Retries, and dead letters that are replayed; of other replays the first attempts count like live ones."""
    assert trips_for(Source.LIVE, 1)
    assert trips_for(Source.REPLAY, 1)
    assert not trips_for(Source.RETRY, 2)
    assert not trips_for(Source.REPLAY, 1, given_up=True)


def held_back(number: int, attempts: int) -> tuple[int, bool]:
    """How many of so many failures have had their attempt before it is clear what is at fault, and whether it trips."""
    clock = Clock()
    doubt = Doubt(Limits(attempts=attempts, judged_attempts=1), clock)
    for _ in range(number):
        doubt.add(Call(Source.LIVE, [(b"1-0", [])], [event(body())], began=clock.now, error=ValueError()), counts=True)
    return len(doubt.take(all_of_them=False)), doubt.tripped


def test_no_more_is_held_back_than_there_is_room_for() -> None:
    """The oldest have had their attempt then; but if it was their last one the breaker does not wait for its time."""
    assert held_back(MOST_HELD, 24) == (0, False)
    assert held_back(MOST_HELD + 7, 24) == (7, False)
    assert held_back(MOST_HELD, 1) == (0, False)
    assert held_back(MOST_HELD + 1, 1) == (0, True)


def test_a_success_clears_what_has_failed_before() -> None:
    """Whatever fails next; then it is at fault itself."""
    clock = Clock()
    doubt = Doubt(Limits(judged_attempts=1), clock)
    for error in (ValueError(), ValueError(), None, ValueError()):
        doubt.add(Call(Source.LIVE, [(b"1-0", [])], [event(body())], began=clock.now, error=error), counts=True)
    assert len(doubt.take(all_of_them=False)) == 3
