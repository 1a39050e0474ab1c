"""The choice of entries in the form of the replays page, and the plan for it."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import Field, StringConstraints

from console.queries.replays import ReplayRequest
from console.queries.run.replay_plans import PlanCount
from console.queries.selection import build_filter
from console.time_args import parse_time_ms
from console.web.access.audit import mask_digits
from console.web.route import Parameters
from console.web.state import ConsoleState
from runtime.errors import CommandError
from worker.events.timestamps import iso_time
from worker.replay.job import Place

Word = Annotated[str, StringConstraints(max_length=200)]
Words = Annotated[str, StringConstraints(max_length=500)]
"""Short enough for a URL of 8 KB, with any characters."""
Moment = Annotated[str, StringConstraints(max_length=40)]
Why = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Rate = Annotated[float, Field(ge=0.01, le=100_000)]

_AGE = re.compile(r"\d{1,7}[smhd]", re.ASCII)


class ReplayChoice(Parameters):
    """Entries and the group that gets them. Several values of a field are separated by commas.

    ``since`` and ``until`` are times, UTC unless they have a zone, or ages such as ``2h``. ``reason`` and ``error``
    choose dead letters only.
    """

    group: Word = ""
    source: Literal["stream", "archive", "dead"] = "stream"
    since: Moment = ""
    until: Moment = ""
    status: Word = ""
    channel: Word = ""
    account: Word = ""
    id: Words = ""
    message: Words = ""
    reason: Word = ""
    error: Words = ""
    rate: Rate = 1000

    def requests(self, state: ConsoleState) -> Sequence[ReplayRequest]:
        """Return the request for each shard. Raises CommandError if the choice is not possible."""
        place, archive = Place(self.source), state.settings.archive
        if place is Place.ARCHIVE and archive is None:
            raise CommandError("no archive is configured: set ACKSTREAM_ARCHIVE to the folder that the workers use")
        if not self.group:
            raise CommandError("choose the group that gets the entries")
        is_dead = place is Place.DEAD
        selection = build_filter(
            since=self.since or None,
            until=self.until or None,
            ids=_split(self.id),
            messages=_split(self.message),
            statuses=_split(self.status),
            channels=_split(self.channel),
            accounts=_split(self.account),
            reasons=_split(self.reason) if is_dead else None,
            errors=[self.error] if is_dead and self.error else None,
        )
        return [ReplayRequest(shard, self.group, place, selection, self.rate, archive) for shard in state.shards]

    def query(self, **more: object) -> str:
        """Return the query of the page with this choice."""
        return urlencode({**self.model_dump(include=set(ReplayChoice.model_fields), exclude_defaults=True), **more})

    def with_times(self) -> "ReplayChoice":
        """Return the same choice with a time for each age, so that it means the same a minute later."""
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        ages = {name: getattr(self, name) for name in ("since", "until") if _AGE.fullmatch(getattr(self, name))}
        times = {name: _minute(parse_time_ms(age, now_ms)) for name, age in ages.items()}
        return self.model_copy(update=times)

    def as_form(self) -> Mapping[str, str]:
        """Return the values of the fields of the form."""
        values = {name: str(value) for name, value in self.model_dump(include=set(ReplayChoice.model_fields)).items()}
        return {**values, "rate": f"{self.rate:g}"}


def _minute(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def describe_plan(choice: ReplayChoice, counts: Sequence[PlanCount]) -> dict[str, Any]:
    """Return the plan for JSON: the sum over all shards, so far or complete."""
    plans = [count.plan for count in counts]
    lengths = [count.length for count in counts]
    received = [plan.received_ms for plan in plans if plan.received_ms]
    entries = sum(plan.entries for plan in plans)
    return {
        "group": choice.group,
        "source": choice.source,
        "scope": mask_digits(counts[0].request.selection.scope),
        "complete": not any(count.is_running for count in counts),
        "entries": entries,
        "bytes": sum(plan.bytes for plan in plans),
        "first": iso_time(min((span[0] for span in received), default=None)),
        "last": iso_time(max((span[1] for span in received), default=None)),
        "seconds": round(entries / choice.rate, 3),
        "rate": choice.rate,
        "read": sum(plan.read for plan in plans),
        "of": None if None in lengths else sum(length or 0 for length in lengths),
        "counted_at": max((count.counted_at or 0 for count in counts), default=0) or None,
    }
