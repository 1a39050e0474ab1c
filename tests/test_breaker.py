import pytest

from ingest.append.circuit_breaker import FIRST_SECONDS, LONGEST_SECONDS, Breaker


class Time:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def breaker(time: Time) -> Breaker:
    """Closed for a long time, without jitter."""
    breaker = Breaker(time, lambda _least, most: most)
    breaker.probe()
    breaker.succeed()
    time.now += 3600
    return breaker


def test_a_new_one_is_to_be_probed_at_once(time: Time) -> None:
    """Nothing goes to a server that was never tried."""
    breaker = Breaker(time, lambda _least, most: most)
    assert (breaker.state, breaker.due_seconds()) == ("open", 0.0)


def test_one_failure_opens_it(breaker: Breaker) -> None:
    """And it knows why, until it is closed."""
    breaker.fail("silent")
    assert (str(breaker.state), breaker.reason) == ("open", "silent")
    assert breaker.due_seconds() == pytest.approx(FIRST_SECONDS)
    breaker.probe()
    assert (breaker.state, breaker.reason) == ("half-open", "silent")
    breaker.succeed()
    assert (breaker.state, breaker.reason) == ("closed", None)


def test_the_probe_is_due_when_the_delay_is_over(breaker: Breaker, time: Time) -> None:
    """Not before, and from then on."""
    breaker.fail("away")
    time.now += FIRST_SECONDS / 2
    assert breaker.due_seconds() == pytest.approx(FIRST_SECONDS / 2)
    time.now += 10
    assert breaker.due_seconds() == 0.0


def delays(breaker: Breaker, time: Time, number: int) -> list[float]:
    found = []
    for _ in range(number):
        breaker.fail("away")
        found.append(round(breaker.due_seconds(), 6))
        time.now += breaker.due_seconds()
        breaker.probe()
    return found


def test_failing_probes_make_it_wait_longer_up_to_a_limit(breaker: Breaker, time: Time) -> None:
    """Twice as long each time, and no longer than what lets it find Redis again within some seconds."""
    assert delays(breaker, time, 7) == [0.1, 0.2, 0.4, 0.8, 1.6, LONGEST_SECONDS, LONGEST_SECONDS]


def test_who_fails_right_after_success_is_tried_less_and_less(breaker: Breaker, time: Time) -> None:
    """A server that takes the probe and then fails again is not hammered; after a quiet time all is forgotten."""
    found = []
    for _ in range(6):
        breaker.fail("silent")
        found.append(round(breaker.due_seconds(), 6))
        time.now += breaker.due_seconds()
        breaker.probe()
        breaker.succeed()
    assert found == [0.1, 0.2, 0.4, 0.8, 1.6, LONGEST_SECONDS]
    time.now += LONGEST_SECONDS
    assert delays(breaker, time, 1) == [FIRST_SECONDS]


def test_the_delay_has_jitter(time: Time) -> None:
    """Half of it to the whole, so that processes that lost Redis together do not come back together."""
    asked = []

    def least(least: float, most: float) -> float:
        asked.append((least, most))
        return least

    breaker = Breaker(time, least)
    breaker.fail("away")
    assert asked == [(FIRST_SECONDS / 2, FIRST_SECONDS)]
    assert breaker.due_seconds() == pytest.approx(FIRST_SECONDS / 2)
