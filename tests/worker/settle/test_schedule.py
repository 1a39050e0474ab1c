from hypothesis import given
from hypothesis import strategies as st

from worker.settle.retry_policy import RetryPolicy

seconds = st.floats(0, 86_400, allow_nan=False)
schedules = st.builds(RetryPolicy, seconds, seconds, st.integers(1, 1000))
attempts = st.integers(1, 10**9)
chances = st.floats(0, 1, exclude_max=True)


def test_the_longest_delay_doubles_up_to_its_cap() -> None:
    """The default delays double from 5 s to 15 min, as those of Vonage do."""
    longest = [RetryPolicy().longest_seconds(attempt) for attempt in range(1, 11)]
    assert longest == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


@given(schedules, attempts, chances)
def test_every_delay_lies_between_nothing_and_the_longest(policy: RetryPolicy, attempt: int, chance: float) -> None:
    """The longest delay never exceeds the cap and never shrinks with more attempts."""
    longest = policy.longest_seconds(attempt)
    assert 0 <= policy.delay_seconds(attempt, chance) <= longest <= policy.cap_seconds
    assert longest <= policy.longest_seconds(attempt + 1)


@given(schedules, attempts)
def test_jitter_is_full(policy: RetryPolicy, attempt: int) -> None:
    """The delay is the chance times the longest delay."""
    longest = policy.longest_seconds(attempt)
    assert [policy.delay_seconds(attempt, chance) for chance in (0, 0.5)] == [0, longest / 2]


@given(schedules)
def test_the_limit_is_the_last_attempt(policy: RetryPolicy) -> None:
    """The attempt with the number of the limit is the last, and so is each later one."""
    assert [policy.is_last(policy.attempts + more) for more in (-1, 0, 1)] == [False, True, True]
