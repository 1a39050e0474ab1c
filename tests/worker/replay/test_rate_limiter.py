from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.fake_clock import FakeClock
from worker.replay.rate_limiter import BEHIND_SECONDS, BURST_SECONDS, CATCH_UP, RateLimiter


def run(rate: float, waits: list[float], most: int | None = None) -> list[tuple[float, int]]:
    """What goes after each wait, by a clock that begins at 0: all that is due, or at most so many."""
    clock = FakeClock()
    pace = RateLimiter(rate, clock)
    went = []
    for seconds in waits:
        clock.now += seconds
        number = pace.count_due() if most is None else min(pace.count_due(), most)
        pace.record(number)
        went.append((clock.now - 1000, number))
    return went


rates = st.floats(0.01, 100_000)
waits = st.lists(st.floats(0, 20), min_size=1, max_size=60)


@given(rates, waits)
def test_at_no_time_goes_more_than_the_rate_allows(rate: float, waits: list[float]) -> None:
    """Between any two moments, whatever the stalls: the rate, 3 % to make up for stalls, and a quarter of a second."""
    went = run(rate, waits)
    for first in range(len(went)):
        for last in range(first, len(went)):
            number = sum(count for _, count in went[first : last + 1])
            seconds = went[last][0] - (went[first - 1][0] if first else 0)
            assert number <= rate * (CATCH_UP * seconds + BURST_SECONDS) + 1.001
    assert sum(count for _, count in went) <= rate * went[-1][0] + 1.001


@example(3.0, [0.125] * 200)
@given(st.floats(0.1, 10_000), st.lists(st.floats(0.01, 0.2), min_size=200, max_size=300))
def test_who_looks_often_enough_keeps_the_rate(rate: float, waits: list[float]) -> None:
    """Looks as far apart as a busy loop's lose nothing, but for what is due at the very end."""
    went = run(rate, waits)
    assert abs(sum(count for _, count in went) - rate * went[-1][0]) <= 1.001


def test_a_stall_is_made_up_slowly() -> None:
    """After 2 s without a look, the rate is 3 % higher until what was missed is there."""
    went = run(1000, [0.05] * 200 + [2] + [0.05] * 2000)
    assert went[200][1] == 251
    after = [count for _, count in went[201:1201]]
    assert all(count <= 52 for count in after)
    assert abs(sum(count for _, count in went) - 1000 * went[-1][0]) <= 1


def test_what_is_held_up_for_long_is_not_made_up() -> None:
    """After an hour without room, as much as 10 s hold is made up, and no more."""
    went = run(100, [3600] + [0.05] * 20_000)
    assert abs(sum(count for _, count in went) - 100 * (1000 + BEHIND_SECONDS)) <= 2


def test_it_says_how_long_to_wait() -> None:
    """At half an entry a second the first one is due after 2 s, and so on."""
    clock = FakeClock()
    pace = RateLimiter(0.5, clock)
    for _ in range(3):
        assert pace.count_due() == 0
        assert pace.seconds_until_next() == 2
        clock.now += 2
        assert pace.count_due() == 1
        pace.record(1)
