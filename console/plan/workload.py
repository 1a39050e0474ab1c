"""The load to plan for: the statuses of a user, and limits of the user's machines."""

from dataclasses import dataclass

from runtime.errors import CommandError
from stream.keys import MOST_SHARDS

GREATEST_RATE = 10_000_000
MOST_BYTES = 8 * 1024**2
MOST_GROUPS = 100
MOST_EVENTS = 100
FACTORS = (0.05, 20)
MOST_IOPS = 100_000_000


@dataclass(frozen=True, slots=True)
class Workload:
    """Statuses a second on average (``rate``) and in the busiest minutes (``peak``), and how long they are kept.

    ``tables_seconds`` None keeps the tables without end. ``factor`` multiplies the measured CPU times.
    """

    rate: float
    retention_seconds: float
    peak: float | None = None
    tables_seconds: float | None = None
    size: int = 560
    groups: int = 1
    events_per_message: float = 3.0
    shards: int | None = None
    factor: float = 1.0
    iops: int = 16_000

    @property
    def peak_rate(self) -> float:
        """Statuses a second in the busiest minutes."""
        return self.rate if self.peak is None else self.peak

    def check(self) -> None:
        """Raise CommandError for a value that no installation can have."""
        _require(
            0 < self.rate <= GREATEST_RATE,
            f"--rate {self.rate:g}: name the statuses a second on average, above 0 and up to {GREATEST_RATE:,}; "
            "the metric ackstream_webhooks_total counts yours",
        )
        _require(
            self.rate <= self.peak_rate <= GREATEST_RATE,
            f"--peak {self.peak_rate:g} is below the average of --rate or above {GREATEST_RATE:,}: name the statuses "
            "a second of the busiest minutes, or leave --peak out",
        )
        _require(
            1 <= self.size <= MOST_BYTES,
            f"--size {self.size}: name the bytes of a payload, 1 to {MOST_BYTES}; most statuses of Vonage have 300 "
            "to 800",
        )
        _require(
            1 <= self.groups <= MOST_GROUPS,
            f"--groups {self.groups}: count `store` and your handlers, 1 to {MOST_GROUPS}; `ackstream groups list` "
            "shows them",
        )
        _require(
            1 <= self.events_per_message <= MOST_EVENTS,
            f"--events-per-message {self.events_per_message:g}: a message has 1 to {MOST_EVENTS} statuses on average, "
            "about 3 if it is delivered and read",
        )
        _require(
            self.shards is None or 1 <= self.shards <= MOST_SHARDS,
            f"--shards {self.shards}: 1 to {MOST_SHARDS}, or leave it out to get the number that is needed",
        )
        _require(
            FACTORS[0] <= self.factor <= FACTORS[1],
            f"--factor {self.factor:g}: {FACTORS[0]:g} to {FACTORS[1]:g}; 2 means that your machine needs twice the "
            "CPU time of the measured one",
        )
        _require(
            1 <= self.iops <= MOST_IOPS,
            f"--iops {self.iops}: name the writes a second that the disk of PostgreSQL can do, 1 to {MOST_IOPS:,}",
        )


def _require(is_possible: bool, otherwise: str) -> None:
    if not is_possible:
        raise CommandError(otherwise)
