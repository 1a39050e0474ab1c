from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.fake_clock import FakeClock
from worker.replay.rate_limiter import BEHIND_SECONDS, BURST_SECONDS, CATCH_UP, RateLimiter


def run(rate: float, waits: list[float], limit: int | None = None) -> list[tuple[float, int]]:
    """Return the items after each wait, by a clock that starts at 0: all that are due, or at most a number."""
    clock = FakeClock()
    pace = RateLimiter(rate, clock)
    went = []
    for seconds in waits:
        clock.now += seconds
        number = pace.count_due() if limit is None else min(pace.count_due(), limit)
        pace.record(number)
        went.append((clock.now - 1000, number))
    return went


rates = st.floats(0.01, 100_000)
waits = st.lists(st.floats(0, 20), min_size=1, max_size=60)


@given(rates, waits)
def test_the_rate_is_never_exceeded(rate: float, waits: list[float]) -> None:
    """Between any two times, with any stalls: the rate, 3 % to catch up, and a quarter of a second."""
    went = run(rate, waits)
    for first in range(len(went)):
        for last in range(first, len(went)):
            number = sum(count for _, count in went[first : last + 1])
            seconds = went[last][0] - (went[first - 1][0] if first else 0)
            assert number <= rate * (CATCH_UP * seconds + BURST_SECONDS) + 1.001
    assert sum(count for _, count in went) <= rate * went[-1][0] + 1.001


@example(3.0, [0.125] * 200)
@given(st.floats(0.1, 10_000), st.lists(st.floats(0.01, 0.2), min_size=200, max_size=300))
def test_frequent_calls_reach_the_rate(rate: float, waits: list[float]) -> None:
    """Calls at the intervals of a busy loop lose no items except those that are due at the very end."""
    went = run(rate, waits)
    assert abs(sum(count for _, count in went) - rate * went[-1][0]) <= 1.001


def test_a_stall_is_made_up_slowly() -> None:
    """After a stall of 2 s the rate is 3 % higher until the missed items are made up."""
    went = run(1000, [0.05] * 200 + [2] + [0.05] * 2000)
    assert went[200][1] == 251
    after = [count for _, count in went[201:1201]]
    assert all(count <= 52 for count in after)
    assert abs(sum(count for _, count in went) - 1000 * went[-1][0]) <= 1


def test_a_long_stall_is_not_made_up() -> None:
    """After a stall of an hour, only the items of 10 s are made up."""
    went = run(100, [3600] + [0.05] * 20_000)
    assert abs(sum(count for _, count in went) - 100 * (1000 + BEHIND_SECONDS)) <= 2


def test_it_says_how_long_to_wait() -> None:
    """At half an entry a second the first one is due after 2 s, the next one 2 s later."""
    clock = FakeClock()
    pace = RateLimiter(0.5, clock)
    for _ in range(3):
        assert pace.count_due() == 0
        assert pace.seconds_until_next() == 2
        clock.now += 2
        assert pace.count_due() == 1
        pace.record(1)
