"""Keeping to a rate, whatever holds one up: what was missed is made up slowly, never in one go. No I/O."""

from collections.abc import Callable

BEHIND_SECONDS = 10.0
CATCH_UP = 1.03
BURST_SECONDS = 0.25


class RateLimiter:
    """Lets through ``rate`` a second, from its making on; what it lets through at least is one.

    Over any time of ``t`` seconds it lets through at most ``rate * (CATCH_UP * t + BURST_SECONDS) + 1``. Who was held
    up for up to BEHIND_SECONDS comes back to what the rate asks for by going faster by CATCH_UP; what was missed
    beyond that is not made up.
    """

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._last = clock()
        self._behind = self._burst = 0.0

    def due(self) -> int:
        """Return how many may go now."""
        now = self._clock()
        passed, self._last = max(now - self._last, 0.0), now
        self._behind = min(self._behind + passed * self._rate, self._rate * BEHIND_SECONDS + 1)
        self._burst = min(self._burst + passed * self._rate * CATCH_UP, self._rate * BURST_SECONDS + 1)
        return int(min(self._behind, self._burst))

    def let(self, number: int) -> None:
        """Count what has gone: no more than were due, or a few more, which are then waited for."""
        self._behind -= number
        self._burst -= number

    def seconds(self) -> float:
        """Return after how many seconds one more is due."""
        missing = 1 - min(self._behind, self._burst)
        return max(missing, 0.0) / self._rate
