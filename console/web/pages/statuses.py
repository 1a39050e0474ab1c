"""Statuses in numbers: a funnel, error codes, time to delivery, cost, and messages without an answer."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import asdict
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlencode

from aiohttp import web
from pydantic import BaseModel, StringConstraints, model_validator

from console.queries.statuses.costs import sum_costs
from console.queries.statuses.delivery import measure_delivery
from console.queries.statuses.errors import count_errors
from console.queries.statuses.figures import Cost, ErrorCount
from console.queries.statuses.funnel import count_groups, count_messages, list_choices
from console.queries.statuses.open_messages import count_open
from console.queries.statuses.selection import Split, StatusFilter
from console.web.access.roles import Identity, Role
from console.web.lists.csv_stream import send_csv
from console.web.lists.moments import MomentText, parse_moment
from console.web.live import LivePage
from console.web.render import json_reply, parameters, render_page
from console.web.route import API, Json, Parameters, Route
from console.web.state import ConsoleState, identity_of, state_of
from console.web.statuses.delivery_chart import draw_delivery
from console.web.statuses.shares import (
    add_costs,
    add_up,
    compare,
    describe_counts,
    describe_reads,
    is_rising,
    list_groups,
    scale_bars,
)

SPANS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
LONGEST_DAYS = 400
HOURLY = timedelta(days=3)
"""The longest time that is split into hours; a longer one is split into days."""
MOST_GROUPS = 50
MOST_CODES = 8
ALL_CODES = 1000

Text = Annotated[str, StringConstraints(max_length=255)]


class StatusQuery(Parameters):
    """The messages to count: those whose first status was reached in the span, or from ``since`` to ``until``."""

    span: Literal["24h", "7d", "30d"] = "24h"
    since: MomentText | None = None
    until: MomentText | None = None
    channel: Text | None = None
    country: Text | None = None
    network: Text | None = None
    account: Text | None = None
    application: Text | None = None
    by: Split = "channel"
    codes: Literal["top", "all"] = "top"

    @model_validator(mode="after")
    def check_times(self) -> Self:
        """Check that the time is not empty and not too long."""
        since, until = self.times
        if not timedelta() < until - since <= timedelta(days=LONGEST_DAYS):
            raise ValueError(f"until must be after since, by at most {LONGEST_DAYS} days")
        if until.year == MAXYEAR:  # the end of its last hour is no datetime
            raise ValueError(f"until must be before the year {MAXYEAR}")
        return self

    @property
    def times(self) -> tuple[datetime, datetime]:
        """The start and the end of the time."""
        until = parse_moment(self.until) if self.until else datetime.now(UTC)
        return parse_moment(self.since) if self.since else until - SPANS[self.span], until

    @property
    def filter(self) -> StatusFilter:
        """The filter for the counts."""
        since, until = self.times
        names = ("channel", "country", "network", "account", "application")
        return StatusFilter(since=since, until=until, **{name: getattr(self, name) for name in names})

    def link(self, **changes: str | None) -> str:
        """Return the query of this page with some parameters changed; None removes one."""
        values = {**self.model_dump(exclude_defaults=True), **changes}
        return f"?{urlencode({name: value for name, value in values.items() if value is not None})}"


TABLES = {
    "counts": ("label", "messages", "submitted", "delivered", "read", "rejected", "undeliverable", "open"),
    "errors": ("code", "messages", "previous", "meaning", "advice", "source"),
    "delivery": ("label", "messages", "p50", "p90", "p99"),
    "costs": ("label", "currency", "messages", "average", "amount"),
}
"""The columns of each CSV file."""


class StatusExport(StatusQuery):
    """One table of the page as CSV."""

    table: Literal["counts", "errors", "delivery", "costs"] = "counts"


class StatusesReply(BaseModel):
    """The figures. Shares are of 1; amounts are decimal texts; ``open`` counts all messages, of any time."""

    since: datetime
    until: datetime
    counts: dict[str, Any]
    previous: dict[str, Any]
    change: dict[str, float | None]
    reads: dict[str, float | None]
    groups: list[dict[str, Any]]
    errors: dict[str, Any]
    delivery: list[dict[str, Any]]
    delivery_over_time: list[dict[str, Any]]
    costs: list[dict[str, Any]]
    open: dict[str, Any]


async def read_funnel(state: ConsoleState, chosen: StatusQuery, _identity: Identity) -> Json:
    """Return the counts, those of the time before, and the reads."""
    engine, now = state.engine, chosen.filter
    previous, channels = await _read_together(
        count_messages(engine, now.previous()), count_groups(engine, now, "channel")
    )
    counts = add_up(channels)
    return {
        "since": now.first_hour.isoformat(),
        "until": now.until.isoformat(),
        "counts": describe_counts(counts),
        "previous": describe_counts(previous),
        "change": compare(counts, previous),
        "reads": describe_reads(channels),
    }


async def read(state: ConsoleState, chosen: StatusQuery, identity: Identity) -> Json:
    """Return all figures. Raises QueryTooSlow, and the errors of the database."""
    engine, now = state.engine, chosen.filter
    funnel, groups, errors, delivery, over_time, costs, open_messages = await _read_together(
        read_funnel(state, chosen, identity),
        count_groups(engine, now, chosen.by),
        count_errors(engine, now, ALL_CODES if chosen.codes == "all" else MOST_CODES),
        measure_delivery(engine, now, chosen.by, state.histograms),
        measure_delivery(engine, now, "time", state.histograms),
        sum_costs(engine, now, chosen.by),
        count_open(engine, datetime.now(UTC)),
    )
    return {
        **funnel,
        "groups": list_groups(groups, MOST_GROUPS),
        "errors": {**asdict(errors), "codes": [_describe_error(error, funnel) for error in errors.codes]},
        "delivery": [asdict(row) for row in delivery],
        "delivery_over_time": [asdict(row) for row in over_time],
        "costs": [_describe_cost(cost) for cost in costs],
        "open": asdict(open_messages),
    }


async def _read_together(*reads: Coroutine[Any, Any, Any]) -> list[Any]:
    """Return the results of reads that run at the same time. Raises the first error, and cancels the other reads."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each) for each in reads]
    except ExceptionGroup as exc:
        raise exc.exceptions[0] from None
    return [task.result() for task in running]


def _describe_error(error: ErrorCount, funnel: Json) -> Json:
    trend = [[at.isoformat(), number] for at, number in error.trend]
    rising = is_rising(error, funnel["counts"]["messages"], funnel["previous"]["messages"])
    return {**asdict(error), "trend": trend, "is_rising": rising}


def _describe_cost(cost: Cost) -> Json:
    average = f"{cost.amount / cost.messages:.4f}" if cost.messages else None
    return {**asdict(cost), "amount": f"{cost.amount:f}", "average": average}


async def view(request: web.Request) -> web.Response:
    """Show the figures."""
    state, chosen = state_of(request), await parameters(request, StatusQuery)
    data, choices = await _read_together(
        read(state, chosen, identity_of(request)), list_choices(state.engine, chosen.filter)
    )
    shown = {
        **data,
        "chosen": chosen.model_dump(),
        "link": chosen.link,
        "most_groups": MOST_GROUPS,
        "choices": asdict(choices),
        "scale": scale_bars([*data["groups"], data["counts"]]),
        "chart": draw_delivery(data["delivery_over_time"]),
        "is_daily": chosen.filter.end - chosen.filter.first_hour > HOURLY,
        "totals": add_costs(data["costs"]),
    }
    return render_page(request, "statuses.html", shown, title="Statuses", twin=f"{API}/statuses", live="statuses")


async def twin(request: web.Request) -> web.Response:
    """Return the figures as JSON."""
    return json_reply(await read(state_of(request), await parameters(request, StatusQuery), identity_of(request)))


async def export(request: web.Request) -> web.StreamResponse:
    """Send one table of the page as CSV."""
    chosen = await parameters(request, StatusExport)
    rows: list[Any] = list(await _read_table(state_of(request), chosen))
    columns = TABLES[chosen.table]

    async def pages() -> AsyncGenerator[Sequence[Sequence[object]], None]:
        yield [[row[name] for name in columns] for row in rows]

    return await send_csv(request, f"statuses-{chosen.table}.csv", columns, pages())


async def _read_table(state: ConsoleState, chosen: StatusExport) -> Sequence[Json]:
    engine = state.engine
    match chosen.table:
        case "errors":
            errors = await count_errors(engine, chosen.filter, ALL_CODES)
            texts = ("meaning", "advice", "source")
            return [
                {**asdict(error), **{name: getattr(error.meaning, name, "") for name in texts}}
                for error in errors.codes
            ]
        case "delivery":
            return [asdict(row) for row in await measure_delivery(engine, chosen.filter, chosen.by, state.histograms)]
        case "costs":
            return [_describe_cost(cost) for cost in await sum_costs(engine, chosen.filter, chosen.by)]
        case _:
            groups = await count_groups(engine, chosen.filter, chosen.by)
            return [{"label": group.label, **asdict(group.counts)} for group in groups]


ROUTES = [
    Route("GET", "/statuses", view, Role.VIEWER, StatusQuery, summary="Statuses"),
    Route("GET", "/statuses.csv", export, Role.VIEWER, StatusExport, summary="A table of statuses as CSV"),
    Route("GET", f"{API}/statuses", twin, Role.VIEWER, StatusQuery, StatusesReply, "Statuses"),
]
LIVE = LivePage("statuses", "statuses.html", ("funnel",), read_funnel, StatusQuery, seconds=5)
