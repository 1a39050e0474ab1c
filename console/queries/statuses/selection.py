"""Selects the messages to count, and how to split the counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

Split = Literal["channel", "country", "network", "account", "application", "time"]
"""A table of counts has one row for each of these. ``time`` is hours for at most three days, else days (UTC)."""

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusFilter:
    """The messages whose first status was reached in this time, with all of these values. None selects any value.

    Roll-ups have hours, so the time is widened to whole hours in UTC. An empty text selects messages without the value.
    ``network`` is MCC and MNC, as stored; ``country`` is a name in console.queries.codes.countries.
    """

    since: datetime
    until: datetime
    channel: str | None = None
    account: str | None = None
    application: str | None = None
    network: str | None = None
    country: str | None = None

    @property
    def first_hour(self) -> datetime:
        """The start of the first hour that is counted."""
        return self.since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)

    @property
    def end(self) -> datetime:
        """The end of the last hour that is counted."""
        start = self.until.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return start if start == self.until else start + _HOUR

    def previous(self) -> "StatusFilter":
        """Return the filter for the time of the same length before."""
        length = self.end - self.first_hour
        return StatusFilter(
            since=self.first_hour - length,
            until=self.first_hour,
            channel=self.channel,
            account=self.account,
            application=self.application,
            network=self.network,
            country=self.country,
        )


@dataclass(frozen=True, slots=True)
class Choices:
    """The values that messages of a time have, for the filters of a page, each list sorted."""

    channels: Sequence[str]
    accounts: Sequence[str]
    applications: Sequence[str]
    networks: Sequence[str]
    countries: Sequence[str]
