"""The circuit breaker detects that nearly every call of a handler fails: the target is at fault, not the events.

It counts only calls with new events, because some retries and some replayed dead letters never succeed. It trips if for
``trip_seconds`` at most one call in FAILURES_TO_A_SUCCESS succeeds while many fail, or while a few fail throughout that
time. A few successes in a row reset it. Failures older than ``window_seconds`` do not count, so a quiet group with a
few bad events never trips it. No I/O.
"""

from collections import deque
from collections.abc import Callable

FAILURES_TO_A_SUCCESS = 50
MANY_FAILURES = 36
FEW_CALLS = 10
FEW_SUCCESSES = 5
LIST_WEIGHT = 5
"""A failed list counts as this many calls only, because one bad event fails the list."""
MOST_KEPT = 1000


class CircuitBreaker:
    """The results of the last calls of one handler."""

    def __init__(self, clock: Callable[[], float], trip_seconds: float = 3.0, window_seconds: float = 30.0) -> None:
        self._clock = clock
        self._trip_seconds = trip_seconds
        self._window_seconds = window_seconds
        self._failures: deque[tuple[float, int]] = deque(maxlen=MOST_KEPT)
        self.reset()

    def reset(self) -> None:
        """Forget all results."""
        self._failures.clear()
        self._weight = self._successes = self._in_a_row = 0

    def record(self, *, failed: bool, events: int) -> None:
        """Record the result of a call with this many events."""
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
            del self._failures[1]  # the first one stays: it says since when calls fail
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
        """Whether failures are recorded. Without any, a success changes nothing."""
        return bool(self._failures)

    @property
    def is_tripped(self) -> bool:
        """Whether nearly every call fails."""
        if not self._failures:
            return False
        first, last = self._failures[0][0], self._failures[-1][0]
        if len(self._failures) >= FEW_CALLS and last - first >= self._trip_seconds:
            return True
        return self._weight >= MANY_FAILURES and self._trip_seconds <= self._clock() - first <= self._window_seconds
