from hypothesis import given
from hypothesis import strategies as st

from worker.settle.schedule import Schedule

seconds = st.floats(0, 86_400, allow_nan=False)
schedules = st.builds(Schedule, seconds, seconds, st.integers(1, 1000))
attempts = st.integers(1, 10**9)
chances = st.floats(0, 1, exclude_max=True)


def test_the_longest_delay_doubles_up_to_its_cap() -> None:
    """From 5 s to 15 min, as by default: the same steps as the provider's own."""
    longest = [Schedule().longest_seconds(attempt) for attempt in range(1, 11)]
    assert longest == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


@given(schedules, attempts, chances)
def test_every_delay_lies_between_nothing_and_the_longest(schedule: Schedule, attempt: int, chance: float) -> None:
    """And no longest one is beyond the cap, or less than the one before, however many attempts there were."""
    longest = schedule.longest_seconds(attempt)
    assert 0 <= schedule.delay_seconds(attempt, chance) <= longest <= schedule.cap_seconds
    assert longest <= schedule.longest_seconds(attempt + 1)


@given(schedules, attempts)
def test_jitter_is_full(schedule: Schedule, attempt: int) -> None:
    """Chance spreads the delay over all of it, in proportion."""
    longest = schedule.longest_seconds(attempt)
    assert [schedule.delay_seconds(attempt, chance) for chance in (0, 0.5)] == [0, longest / 2]


@given(schedules)
def test_there_are_as_many_attempts_as_it_says(schedule: Schedule) -> None:
    """The last one is the one whose number is the limit; beyond it every one is the last."""
    assert [schedule.is_last(schedule.attempts + more) for more in (-1, 0, 1)] == [False, True, True]
