"""Limits how often a password may be tried, for each name and for each address, with a wait that doubles.

An attempt that has to wait is refused before its password is checked, and does not make the wait longer, so a person is
never locked out for more than a minute at a time. An attack on a name does not delay its owner at an address from which
the owner signed in before.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

MAX_KEYS = 10_000
FORGET_SECONDS = 3600.0
_MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class Limit:
    """After ``free`` failures each further one doubles the wait, from one second up to ``longest``."""

    free: int
    longest: float

    def wait_after(self, failures: int) -> float:
        """Return the seconds until the next attempt."""
        doublings = failures - self.free
        return 0.0 if doublings < 0 else min(2.0 ** min(doublings, _MOST_DOUBLINGS), self.longest)


NAME = Limit(free=5, longest=60.0)
ADDRESS = Limit(free=10, longest=300.0)


@dataclass(slots=True)
class _Failures:
    number: int = 0
    last_at: float = 0.0


class LoginLimiter:
    """Counts failed attempts, in bounded memory: the key that failed least recently is forgotten first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._owners: OrderedDict[tuple[str, str], None] = OrderedDict()

    def start(self, name: str, address: str) -> float:
        """Return 0 if the attempt may be made, else the seconds to wait.

        An attempt counts as failed until `succeed`, so that attempts at the same time share one limit.
        """
        now, limits = self._clock(), list(self._limits(name, address))
        wait = max(self._wait(key, limit, now) for key, limit in limits)
        if wait > 0:
            return wait
        for key, _ in limits:
            failures = self._failures.setdefault(key, _Failures())
            failures.number, failures.last_at = self._number(key, now) + 1, now
            self._failures.move_to_end(key)
        while len(self._failures) > MAX_KEYS:
            self._failures.popitem(last=False)
        return 0.0

    def succeed(self, name: str, address: str) -> None:
        """Forget the failures of the name, and this attempt at the address."""
        self._failures.pop(_name_key(name), None)
        if (failures := self._failures.get(_address_key(address))) is not None:
            failures.number = max(failures.number - 1, 0)
        self._owners[name, _address_key(address)] = None
        self._owners.move_to_end((name, _address_key(address)))
        while len(self._owners) > MAX_KEYS:
            self._owners.popitem(last=False)

    @property
    def size(self) -> int:
        """The number of keys in memory."""
        return len(self._failures) + len(self._owners)

    def tries_left(self, name: str, address: str) -> int:
        """Return how many attempts may fail before the first wait."""
        now = self._clock()
        return max(min(limit.free - self._number(key, now) for key, limit in self._limits(name, address)), 0)

    def _limits(self, name: str, address: str) -> Iterable[tuple[str, Limit]]:
        yield _address_key(address), ADDRESS
        if (name, _address_key(address)) not in self._owners:
            yield _name_key(name), NAME

    def _number(self, key: str, now: float) -> int:
        failures = self._failures.get(key)
        return failures.number if failures and now - failures.last_at < FORGET_SECONDS else 0

    def _wait(self, key: str, limit: Limit, now: float) -> float:
        failures = self._failures.get(key)
        number = self._number(key, now)
        return failures.last_at + limit.wait_after(number) - now if failures and number else 0.0


def _name_key(name: str) -> str:
    return f"name {name[:64]}"


def _address_key(address: str) -> str:
    """Return the key of an address. The addresses of an IPv6 /64, which one client may own, share a key."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return f"address {address[:64]}"
    is_network = isinstance(parsed, IPv6Address)
    return f"address {int(parsed) >> 64:x}" if is_network else f"address {parsed}"
