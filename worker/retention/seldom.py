"""Saying the same thing seldom: a state that lasts is told once a minute, not at every look."""

import time
from collections.abc import Callable

SECONDS = 60.0


class Seldom:
    """Lets each thing through once in ``SECONDS``; holds what it let through in that time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}

    def tells(self, what: str) -> bool:
        """Whether this is to be told now."""
        now = self._clock()
        self._told = {known: at for known, at in self._told.items() if now - at < SECONDS}
        if what in self._told:
            return False
        self._told[what] = now
        return True
