"""Bounding how many lines a log gets: whoever can cause a line must not be able to fill a disk with it."""

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from runtime.metrics import SUPPRESSED

LINES_PER_SECOND = 5
MOST_KINDS = 1000


@dataclass(slots=True)
class _Period:
    began: float
    passed: int = 0
    suppressed: int = 0


class LogThrottle:
    """Lets through ``most`` lines of each kind in each period of ``seconds``, and counts the others."""

    def __init__(
        self, most: int = LINES_PER_SECOND, clock: Callable[[], float] = time.monotonic, *, seconds: float = 1.0
    ) -> None:
        self._most = most
        self._clock = clock
        self._seconds = seconds
        self._periods: dict[Hashable, _Period] = {}

    def admit(self, kind: Hashable) -> int | None:
        """Return how many lines of this kind were suppressed since the last one, or None to suppress this one too.

        Kinds are places in a program, or groups; never make one from what a client sends. At most MOST_KINDS are
        remembered beyond their period.
        """
        now = self._clock()
        if len(self._periods) > MOST_KINDS:
            self._periods = {one: old for one, old in self._periods.items() if now - old.began < self._seconds}
        period = self._periods.setdefault(kind, _Period(now))
        if now - period.began >= self._seconds:
            period.began, period.passed = now, 0
        if period.passed >= self._most:
            period.suppressed += 1
            return None
        period.passed += 1
        suppressed, period.suppressed = period.suppressed, 0
        return suppressed


class ThrottleFilter(logging.Filter):
    """Samples the lines of the standard library's loggers, each place that logs by itself.

    The next line from a place that was too loud carries the attribute ``suppressed``: how many are missing before it.
    """

    def __init__(self, sampling: LogThrottle) -> None:
        super().__init__()
        self._sampling = sampling

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written."""
        suppressed = self._sampling.admit((record.name, record.pathname, record.lineno))
        if suppressed is None:
            SUPPRESSED.labels(record.name).inc()
            return False
        record.suppressed = suppressed
        return True
