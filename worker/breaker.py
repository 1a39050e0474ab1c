"""Whether nearly everything fails that a handler is given: then not the events are at fault, but what is behind it.

Judged are calls with events that are handled for the first time, for among retries are those that never succeed. The
breaker trips when of the last WINDOW such calls nearly all failed, or after SOON_SECONDS in which a few did and none
succeeded. Until that is clear, what failed is doubtful: it is held back, so that it can be kept if the breaker trips.
"""

from collections import deque
from collections.abc import Callable

WINDOW = 40
MOST_SUCCESSES = 4
FEW_CALLS = 5
SOON_SECONDS = 4.0
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
        self._last: deque[bool] = deque(maxlen=WINDOW)
        self._failed_calls = 0
        self._failing_since: float | None = None

    def note(self, *, failed: bool, events: int) -> None:
        """Take in what has become of a call of so many events."""
        self._last.extend([failed] * (1 if events == 1 else LIST_WEIGHT))
        if not failed:
            self._failed_calls, self._failing_since = 0, None
            return
        self._failed_calls += 1
        if self._failing_since is None:
            self._failing_since = self._clock()

    @property
    def tripped(self) -> bool:
        """Whether nearly everything fails."""
        failed = sum(self._last)
        if failed >= WINDOW - MOST_SUCCESSES:
            return True
        return self._failed_calls >= FEW_CALLS and self._failing_seconds >= SOON_SECONDS

    def doubtful(self, ended: float) -> bool:
        """Whether a call that failed then may yet turn out to be one of those for which it trips."""
        return self._failing_since is not None and self._clock() - ended < HELD_SECONDS

    @property
    def _failing_seconds(self) -> float:
        return 0.0 if self._failing_since is None else self._clock() - self._failing_since
