"""Bounding how many lines a log gets: whoever can cause a line must not be able to fill a disk with it."""

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from runtime.metrics import SUPPRESSED

LINES_PER_SECOND = 5


@dataclass(slots=True)
class _Second:
    began: float
    passed: int = 0
    suppressed: int = 0


class Sampling:
    """Lets so many lines of one kind through each second, and counts the others."""

    def __init__(self, most: int = LINES_PER_SECOND, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._seconds: dict[Hashable, _Second] = {}

    def admit(self, kind: Hashable) -> int | None:
        """Return how many lines of this kind were suppressed since the last one, or None to suppress this one too.

        Kinds are places in a program, so there are few of them; never make one from what a client sends.
        """
        now = self._clock()
        second = self._seconds.setdefault(kind, _Second(now))
        if now - second.began >= 1:
            second.began, second.passed = now, 0
        if second.passed >= self._most:
            second.suppressed += 1
            return None
        second.passed += 1
        suppressed, second.suppressed = second.suppressed, 0
        return suppressed


class Sampled(logging.Filter):
    """Samples the lines of the standard library's loggers, each place that logs by itself.

    The next line from a place that was too loud carries the attribute ``suppressed``: how many are missing before it.
    """

    def __init__(self, sampling: Sampling) -> None:
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
