"""Whether Redis is tried, and when it is tried again. Pure: the clock and the jitter are parameters.

Closed, everything goes to Redis. A failure opens it: nothing goes there until the delay is over, then one probe at a
time (half-open), whose success closes it and whose failure opens it for longer.
"""

from collections.abc import Callable
from typing import Literal

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0

State = Literal["closed", "half-open", "open"]


class Breaker:
    """Open at first, and the first probe is due at once. ``jitter(least, most)`` gives a number between the two."""

    def __init__(self, clock: Callable[[], float], jitter: Callable[[float, float], float]) -> None:
        self.state: State = "open"
        self.reason: str | None = None
        """Why it is not closed."""
        self._clock = clock
        self._jitter = jitter
        self._delay = FIRST_SECONDS
        self._due = self._closed_at = clock()

    def fail(self, reason: str) -> None:
        """Open it, or after a probe keep it open, for half to the whole of a delay that doubles each time.

        It begins small again once the breaker has been closed for as long as the longest delay: while it opens and
        closes in turn, Redis is tried less and less.
        """
        now = self._clock()
        if self.state == "closed" and now - self._closed_at >= LONGEST_SECONDS:
            self._delay = FIRST_SECONDS
        self.state, self.reason = "open", reason
        self._due = now + self._jitter(self._delay / 2, self._delay)
        self._delay = min(2 * self._delay, LONGEST_SECONDS)

    def due_seconds(self) -> float:
        """Return how long it is until a probe may begin."""
        return max(0.0, self._due - self._clock())

    def probe(self) -> None:
        """Begin the one probe; ``fail`` or ``succeed`` ends it."""
        self.state = "half-open"

    def succeed(self) -> None:
        """Close it."""
        self.state, self.reason, self._closed_at = "closed", None, self._clock()
