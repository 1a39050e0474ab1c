"""Limits the number of log lines, so that a client that can cause a line cannot fill a disk with it."""

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from runtime.metrics import SUPPRESSED

LINES_PER_SECOND = 5
MAX_KINDS = 1000


@dataclass(slots=True)
class _Period:
    started_at: float
    passed: int = 0
    suppressed: int = 0


class LogThrottle:
    """Admits ``limit`` lines of each kind in each period of ``seconds``, and counts the suppressed ones."""

    def __init__(
        self, limit: int = LINES_PER_SECOND, clock: Callable[[], float] = time.monotonic, *, seconds: float = 1.0
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._seconds = seconds
        self._periods: dict[Hashable, _Period] = {}

    def admit(self, kind: Hashable) -> int | None:
        """Return how many lines of this kind were suppressed since the last one, or None to suppress this one too.

        A kind is a place in the code or a group, and never made from data of a client. At most MAX_KINDS are remembered
        beyond their period.
        """
        now = self._clock()
        if len(self._periods) > MAX_KINDS:
            self._periods = {key: old for key, old in self._periods.items() if now - old.started_at < self._seconds}
        period = self._periods.setdefault(kind, _Period(now))
        if now - period.started_at >= self._seconds:
            period.started_at, period.passed = now, 0
        if period.passed >= self._limit:
            period.suppressed += 1
            return None
        period.passed += 1
        suppressed, period.suppressed = period.suppressed, 0
        return suppressed


class ThrottleFilter(logging.Filter):
    """Throttles the lines of the standard library's loggers, for each place in the code separately.

    The first line after suppressed ones carries their number in the attribute ``suppressed``.
    """

    def __init__(self, throttle: LogThrottle) -> None:
        super().__init__()
        self._throttle = throttle

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written."""
        suppressed = self._throttle.admit((record.name, record.pathname, record.lineno))
        if suppressed is None:
            SUPPRESSED.labels(record.name).inc()
            return False
        record.suppressed = suppressed
        return True
