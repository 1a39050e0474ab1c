"""Intervals and limits of the loops of a worker. They are not settings; tests scale them."""

from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals and limits in seconds."""

    beat: float = 3.0
    """Between two heartbeats."""
    late: float = 10.0
    """A worker without a heartbeat for this long settles nothing and calls no handler under its old name."""
    dead: float = 15.0
    """A worker whose heartbeat counter has not changed for this long is dead; greater than ``late``."""
    orphan_check: float = 10.0
    """Between two comparisons of the pending entries with those in flight."""
    upkeep: float = 1.0
    """Between two checkpoints, promotions of due retries, and reads of the pause."""
    check: float = 0.2
    """Between two looks at the time at which the handler's target must be checked."""
    quiet: float = 5.0
    """Between two checks of the handler's target while the group has no call."""
    trip: float = 3.0
    """The circuit breaker trips when nearly all calls fail for this long."""
    window: float = 30.0
    """A failure counts for this long."""
    first_probe: float = 0.5
    longest_probe: float = 15.0
    first_away: float = 0.1
    longest_away: float = 10.0
    """The longest wait between calls while the target is unavailable."""
    give_up: float = 24 * 3600.0
    """An event becomes a dead letter this long after its first failure, even if its attempts are not used up."""

    def scale(self, factor: float) -> Self:
        """Return a Timing with every interval multiplied by the factor."""
        return type(self)(**{interval.name: getattr(self, interval.name) * factor for interval in fields(self)})


TIMING = Timing()
