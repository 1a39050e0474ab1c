from collections.abc import Callable
from random import Random

import pytest

from worker.breaker import FEW_CALLS, HELD_SECONDS, LIST_WEIGHT, MOST_SUCCESSES, SOON_SECONDS, WINDOW, Breaker


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


def test_it_trips_when_nearly_all_of_the_last_calls_failed() -> None:
    """After as many failures as the window asks for, some successes among them or before them or not; not before."""
    enough = WINDOW - MOST_SUCCESSES
    for before in ("", "." * 1000, ".x" * 500):
        breaker = Breaker(Clock())
        note(breaker, before + "." * (WINDOW if before else MOST_SUCCESSES) + "x" * (enough - 1))
        assert not breaker.tripped
        note(breaker, "x")
        assert breaker.tripped
    assert enough <= 50


def test_a_list_that_failed_speaks_for_some_of_its_events_only() -> None:
    """One event spoils a list: so it takes more than one or two of them."""
    breaker = Breaker(Clock())
    lists = (WINDOW - MOST_SUCCESSES) // LIST_WEIGHT
    note(breaker, "x" * lists, events=1000)
    assert not breaker.tripped
    note(breaker, "x", events=2)
    assert breaker.tripped


def test_it_trips_when_a_few_calls_failed_for_some_time_and_none_succeeded() -> None:
    """Whoever gets an event a second must not wait for a window to be full."""
    clock = Clock()
    breaker = Breaker(clock)
    note(breaker, ".x")
    clock.now += SOON_SECONDS
    note(breaker, "x" * (FEW_CALLS - 2))
    trips = [breaker.tripped]
    for outcomes in ("x", ".xxxxxxx"):
        note(breaker, outcomes)
        trips.append(breaker.tripped)
    assert trips == [False, True, False]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.6])
def test_it_does_not_trip_for_events_that_fail_by_key(share: float) -> None:
    """However many of them there are, as long as a good part succeeds."""
    chance: Callable[[], float] = Random(1).random  # noqa: S311 - no secret
    breaker = Breaker(Clock())
    for _ in range(20_000):
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
