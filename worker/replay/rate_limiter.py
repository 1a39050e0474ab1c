"""A rate limiter that catches up slowly after a stall and never bursts. No I/O."""

from collections.abc import Callable

BEHIND_SECONDS = 10.0
CATCH_UP = 1.03
BURST_SECONDS = 0.25


class RateLimiter:
    """Allows ``rate`` items a second from its creation on.

    In any ``t`` seconds it allows at most ``rate * (CATCH_UP * t + BURST_SECONDS) + 1`` items. After a stall of up to
    BEHIND_SECONDS the caller catches up at CATCH_UP times the rate. Items of a longer stall are not made up.
    """

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._last = clock()
        self._behind = self._burst = 0.0

    def count_due(self) -> int:
        """Return how many items are allowed now."""
        now = self._clock()
        passed, self._last = max(now - self._last, 0.0), now
        self._behind = min(self._behind + passed * self._rate, self._rate * BEHIND_SECONDS + 1)
        self._burst = min(self._burst + passed * self._rate * CATCH_UP, self._rate * BURST_SECONDS + 1)
        return int(min(self._behind, self._burst))

    def record(self, number: int) -> None:
        """Count items that were processed. If they are more than were due, the next ones become due later."""
        self._behind -= number
        self._burst -= number

    def seconds_until_next(self) -> float:
        """Return the seconds until the next item is due."""
        missing = 1 - min(self._behind, self._burst)
        return max(missing, 0.0) / self._rate
