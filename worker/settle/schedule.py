"""When an event that failed is tried again: later and later, spread at random over the whole delay. No I/O."""

from dataclasses import dataclass

_DOUBLINGS = 64  # beyond, every delay is at its cap


@dataclass(frozen=True, slots=True)
class Schedule:
    """The longest delay doubles from ``base_seconds`` up to ``cap_seconds``; after ``attempts`` there is none more."""

    base_seconds: float = 5.0
    cap_seconds: float = 900.0
    attempts: int = 24

    def is_last(self, attempt: int) -> bool:
        """Whether this attempt, counted from 1, is the last one."""
        return attempt >= self.attempts

    def longest_seconds(self, attempt: int) -> float:
        """Return the longest delay after this attempt, counted from 1."""
        return min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempt - 1, _DOUBLINGS))

    def delay_seconds(self, attempt: int, chance: float) -> float:
        """Return the delay after this attempt: any up to the longest, by ``chance``, which is from [0, 1)."""
        return chance * self.longest_seconds(attempt)
