"""The circuit breaker: whether nearly every call of a handler fails. Then its target is at fault and not the events.

It judges calls with events that are handled for the first time, because some retries never succeed, and neither do some
dead letters that are replayed. It trips when for ``trip_seconds`` at most one call in FAILURES_TO_A_SUCCESS succeeded
and many failed, or a few over all that time. A few successes in a row close it. Failures older than ``window_seconds``
do not count, so a quiet group with a few bad events never trips it. No I/O.
"""

from collections import deque
from collections.abc import Callable

FAILURES_TO_A_SUCCESS = 50
MANY_FAILURES = 36
FEW_CALLS = 10
FEW_SUCCESSES = 5
LIST_WEIGHT = 5
"""A list that fails counts as this many calls, because one of its events is enough to spoil it."""
MOST_KEPT = 1000


class CircuitBreaker:
    """The outcomes of the last calls of one handler."""

    def __init__(self, clock: Callable[[], float], trip_seconds: float = 3.0, window_seconds: float = 30.0) -> None:
        self._clock = clock
        self._trip_seconds = trip_seconds
        self._window_seconds = window_seconds
        self._failures: deque[tuple[float, int]] = deque(maxlen=MOST_KEPT)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._failures.clear()
        self._weight = self._successes = self._in_a_row = 0

    def record(self, *, failed: bool, events: int) -> None:
        """Take in the outcome of a call of this many events."""
        if not failed:
            self._record_success()
            return
        now = self._clock()
        while self._failures and now - self._failures[0][0] > self._window_seconds:
            self._weight -= self._failures.popleft()[1]
        if not self._failures:
            self.reset()
        weight = 1 if events == 1 else LIST_WEIGHT
        if len(self._failures) == MOST_KEPT:
            self._weight -= self._failures[1][1]
            del self._failures[1]  # and keeps the first, by whose time it trips
        self._failures.append((now, weight))
        self._weight += weight
        self._in_a_row = 0

    def _record_success(self) -> None:
        self._successes += 1
        self._in_a_row += 1
        if self._successes > self._weight // FAILURES_TO_A_SUCCESS or self._in_a_row >= FEW_SUCCESSES:
            self.reset()

    @property
    def counts_failures(self) -> bool:
        """Whether any failure counts; without one, a success changes nothing."""
        return bool(self._failures)

    @property
    def is_tripped(self) -> bool:
        """Whether nearly everything fails."""
        if not self._failures:
            return False
        first, last = self._failures[0][0], self._failures[-1][0]
        if len(self._failures) >= FEW_CALLS and last - first >= self._trip_seconds:
            return True
        return self._weight >= MANY_FAILURES and self._trip_seconds <= self._clock() - first <= self._window_seconds
