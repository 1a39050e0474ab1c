"""Whether nearly everything fails that a handler is given: then not the events are at fault, but what is behind it.

Judged are calls with events that are handled for the first time, for among retries are those that never succeed, and
among dead letters that are replayed. The breaker trips when for SOON_SECONDS at most one such call in fifty succeeded,
and many failed, or a few over all that time; a few successes in a row end that. Until it is clear, what failed is
doubtful: it is held back, so that it can be kept if the breaker trips.
"""

from collections.abc import Callable

FAILURES_TO_A_SUCCESS = 50
MANY_FAILURES = 36
FEW_CALLS = 5
SOON_SECONDS = 3.0
HELD_SECONDS = 5.0
LIST_WEIGHT = 5
"""As many calls does a list count that has failed, for one of its events is enough to spoil it."""


class Breaker:
    """What has become of the last calls of one handler."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._calls = self._failures = self._successes = self._in_a_row = 0
        self._first = self._last = 0.0

    def note(self, *, failed: bool, events: int) -> None:
        """Take in what has become of a call of so many events."""
        if failed:
            self._last, self._in_a_row = self._clock(), 0
            if not self._calls:
                self._first = self._last
            self._calls += 1
            self._failures += 1 if events == 1 else LIST_WEIGHT
            return
        self._successes += 1
        self._in_a_row += 1
        if self._successes > self._failures // FAILURES_TO_A_SUCCESS or self._in_a_row >= FEW_CALLS:
            self.reset()

    @property
    def failing(self) -> bool:
        """Whether calls have failed since enough of them succeeded; without that a success says nothing new."""
        return self._calls > 0

    @property
    def tripped(self) -> bool:
        """Whether nearly everything fails."""
        if self._calls >= FEW_CALLS and self._last - self._first >= SOON_SECONDS:
            return True
        return self._failures >= MANY_FAILURES and self._clock() - self._first >= SOON_SECONDS

    def doubtful(self, ended: float) -> bool:
        """Whether a call that failed then may yet turn out to be one of those for which it trips."""
        return self.failing and self._clock() - ended < HELD_SECONDS
