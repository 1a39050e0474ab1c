"""The conclusions that pages show: alerts that fire, the verdict on top of the Overview, and series for charts."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How urgent an alert is."""

    PAGE = "page"
    """Webhooks are at risk of being lost: wake someone."""
    WARNING = "warning"
    """Look at it during the day."""


@dataclass(frozen=True, slots=True)
class FiringAlert:
    """An alert that fires."""

    name: str
    """The name of its rule: ``AckstreamGroupPaused``."""
    severity: Severity
    subject: str
    """The group, account or process that it is about, or empty."""
    summary: str
    risk: str
    """The webhooks or data that are at risk."""
    next_step: str
    runbook: str
    """The path of its runbook on the console: ``/runbooks/group-paused``."""
    since: float


class Tone(StrEnum):
    """The tone of a verdict, and of its icon and colour."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to: do statuses flow, since when, is anything lost, and the next step."""

    tone: Tone
    title: str
    sentences: tuple[str, ...]
    group: str | None = None
    """The group to look at first, for a link."""


class Range(StrEnum):
    """The spans of time of the charts."""

    MINUTES_15 = "15m"
    HOUR = "1h"
    HOURS_6 = "6h"
    DAY = "24h"
    WEEK = "7d"

    @property
    def seconds(self) -> int:
        """The length of the span."""
        return {"15m": 900, "1h": 3600, "6h": 21_600, "24h": 86_400, "7d": 604_800}[self.value]


@dataclass(frozen=True, slots=True)
class Series:
    """Points of a chart: at most about 300, ``step`` seconds apart, the oldest first. A gap is a None.

    The names are ``webhooks``, ``handled``, ``refused`` (per second), ``answer_p50``, ``answer_p99`` (seconds),
    ``spooled``, ``entries``, ``memory``, and for each group ``outstanding:NAME``, ``oldest:NAME`` (seconds),
    ``settled:NAME``, ``handled:NAME`` (per second), ``dead:NAME``.
    """

    step: int
    times: tuple[float, ...]
    """Unix seconds of the end of each point."""
    values: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True, slots=True)
class WebhookCount:
    """The webhooks that were stored since a moment, in Redis or in the spool."""

    number: int
    since: float
    """At most a minute before the moment asked for, or the start of the history."""
    is_exact: bool
    """False if Redis lost a stream since then: the webhooks of the last second before the loss may be missing."""
