"""The limits of sign-in attempts."""

import pytest

from console.web.access.login_limit import ADDRESS, MAX_KEYS, NAME, LoginLimiter
from tests.support.fake_clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limiter(clock: FakeClock) -> LoginLimiter:
    return LoginLimiter(clock)


def count_tries(limiter: LoginLimiter, clock: FakeClock, name: str, address: str, seconds: float) -> int:
    """Try again as soon as it is allowed; return how many attempts are made in this time."""
    end, tries = clock.now + seconds, 0
    while clock.now < end:
        wait = limiter.start(name, address)
        tries += wait == 0
        clock.now += wait
    return tries


def test_ten_thousand_attempts_get_nowhere(limiter: LoginLimiter) -> None:
    """A burst on one name, on many names from one address, and on one name from many addresses ends at once."""
    assert sum(limiter.start("ann", "192.0.2.1") == 0 for _ in range(10_000)) == NAME.free
    assert sum(limiter.start(f"user-{number}", "192.0.2.2") == 0 for number in range(10_000)) == ADDRESS.free
    assert sum(limiter.start("bob", f"10.0.{n >> 8}.{n & 255}") == 0 for n in range(10_000)) == NAME.free


def test_a_patient_attacker_gets_few_attempts(limiter: LoginLimiter, clock: FakeClock) -> None:
    """A day of attempts on one name by one address, as fast as allowed: under 350."""
    assert count_tries(limiter, clock, "ann", "192.0.2.1", 86_400) < 350


def test_nobody_is_locked_out_for_ever(limiter: LoginLimiter, clock: FakeClock) -> None:
    """After 10,000 attempts on the name the next one is allowed within a minute, and refused ones do not add to it."""
    waits = [limiter.start("ann", f"10.0.{n >> 8}.{n & 255}") for n in range(10_000)]

    assert max(waits) <= NAME.longest
    clock.now += NAME.longest
    assert limiter.start("ann", "192.0.2.9") == 0


def test_an_attack_does_not_delay_the_owner_where_they_signed_in_before(limiter: LoginLimiter) -> None:
    """The name's limit does not count at such an address; the limit of the address does."""
    limiter.start("ann", "192.0.2.1")
    limiter.succeed("ann", "192.0.2.1")
    for number in range(100):
        limiter.start("ann", f"10.0.0.{number}")

    assert limiter.start("ann", "192.0.2.9") > 0
    assert limiter.start("ann", "192.0.2.1") == 0
    assert sum(limiter.start("ann", "192.0.2.1") == 0 for _ in range(100)) == ADDRESS.free - 1


def test_the_waits_double(limiter: LoginLimiter, clock: FakeClock) -> None:
    """After five failures of a name: 1, 2, 4, … seconds, at most a minute."""
    waits = []
    for _ in range(13):
        waits.append(round(limiter.start("ann", ""), 3))
        clock.now += waits[-1]
        if waits[-1]:
            limiter.start("ann", "")

    assert [wait for wait in waits if wait] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_success_forgets_the_failures_of_the_name(limiter: LoginLimiter) -> None:
    """A person who remembers the password at last starts at zero; the address keeps its failures."""
    for _ in range(4):
        limiter.start("ann", "192.0.2.1")
    limiter.start("ann", "192.0.2.1")
    limiter.succeed("ann", "192.0.2.1")

    assert limiter.tries_left("ann", "192.0.2.7") == NAME.free
    assert limiter.tries_left("bob", "192.0.2.1") == NAME.free
    assert limiter.tries_left("ann", "192.0.2.1") == ADDRESS.free - 4


def test_an_attacker_with_an_account_does_not_reset_the_address(limiter: LoginLimiter) -> None:
    """Own sign-ins between the guesses do not give more guesses."""
    guesses = 0
    for _ in range(100):
        if limiter.start("mallory", "192.0.2.1") == 0:
            limiter.succeed("mallory", "192.0.2.1")
        guesses += limiter.start("ann", "192.0.2.1") == 0

    assert guesses == NAME.free


def test_failures_are_forgotten_after_an_hour(limiter: LoginLimiter, clock: FakeClock) -> None:
    """The tries that the page shows start again."""
    for _ in range(3):
        limiter.start("ann", "192.0.2.1")
    assert limiter.tries_left("ann", "192.0.2.1") == 2

    clock.now += 3600

    assert limiter.tries_left("ann", "192.0.2.1") == 5


def test_the_memory_is_bounded(limiter: LoginLimiter) -> None:
    """Names and addresses of an attack push out the oldest ones."""
    for number in range(2 * MAX_KEYS):
        limiter.start(f"user-{number}" * 100, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        limiter.succeed(f"user-{number}", str(number))

    assert limiter.size <= 2 * MAX_KEYS


@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "", True),
    ],
)
def test_the_addresses_of_one_client_share_a_limit(
    limiter: LoginLimiter, first: str, second: str, is_shared: bool
) -> None:
    """An IPv6 client has a network of 64 bits; without an address all share one limit."""
    for number in range(ADDRESS.free + 1):
        limiter.start(f"user-{number}", first)

    assert (limiter.start("ann", second) > 0) == is_shared
