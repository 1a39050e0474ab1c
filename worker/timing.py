"""Intervals and limits of a worker's loops that no setting changes; tests scale them."""

from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True)
class Timing:
    """All in seconds."""

    beat: float = 3.0
    """Between two heartbeats."""
    late: float = 10.0
    """A worker that has not beaten for this long settles and calls nothing more under its name."""
    dead: float = 15.0
    """A worker whose counter has not moved for this long is dead; more than ``late``."""
    tidy: float = 10.0
    """Between two comparisons of the pending entries with those in flight."""
    upkeep: float = 1.0
    """Between two checkpoints, promotions of due retries, and looks at the pause."""
    trip: float = 3.0
    """For how long nearly everything fails until the breaker trips."""
    window: float = 30.0
    """After which a failure does not count any more."""
    first_probe: float = 0.5
    longest_probe: float = 15.0
    first_away: float = 0.1
    longest_away: float = 10.0
    """How long calls wait while the target is unavailable."""
    give_up: float = 24 * 3600.0
    """How long after its first failure an event is dead-lettered, whatever else fails."""

    def scale(self, factor: float) -> Self:
        """Return the same with every interval multiplied."""
        return type(self)(**{one.name: getattr(self, one.name) * factor for one in fields(self)})


TIMING = Timing()
