"""The figures that the roll-ups give. A label is a value of the split, ``""`` if the messages do not have one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from console.queries.codes.error_codes import ErrorCode


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of messages. One message counts in each status that it ever reached."""

    messages: int = 0
    submitted: int = 0
    delivered: int = 0
    read: int = 0
    rejected: int = 0
    undeliverable: int = 0
    open: int = 0
    """Messages that are neither delivered, read, rejected nor undeliverable now."""


@dataclass(frozen=True, slots=True)
class Group:
    """The counts of one channel, country, network, account, application or time."""

    label: str
    """For a split by time the start of the hour or day, in ISO 8601."""
    counts: Counts


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How many messages have this error code with their current status."""

    code: str
    messages: int
    previous: int
    """The number in the time of the same length before."""
    trend: Sequence[tuple[datetime, int]]
    """The messages for each hour or day, oldest first, also those without any."""
    meaning: ErrorCode | None
    """None if the provider does not document the code."""


@dataclass(frozen=True, slots=True)
class Errors:
    """The most frequent error codes, most messages first, and the sum of the others."""

    codes: Sequence[ErrorCount]
    other_codes: int
    other_messages: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """The seconds from submitted to delivered. Each figure is at most 5 % off."""

    label: str
    messages: int
    """How many messages have both times."""
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class Cost:
    """The sum of the prices in one currency, as reported by the provider."""

    label: str
    currency: str
    messages: int
    """How many messages have a price."""
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Capped:
    """A count that stops at a limit: shown as ``10,000+`` if it is not exact."""

    number: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class OpenMessages:
    """Messages without a final status, by the time since their first status."""

    under_1h: Capped
    from_1h_to_24h: Capped
    over_24h: Capped
