"""The first page: whether statuses flow, where they stop, since when, and the next step."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from aiohttp import web
from redis.exceptions import RedisError

from console.web.access.roles import Identity, Role
from console.web.filters import format_number
from console.web.live import LivePage
from console.web.overview.charts import draw_charts, tabulate
from console.web.overview.first_steps import is_first_run, list_steps
from console.web.overview.flow import describe_flow
from console.web.overview.group_rows import describe_groups, list_failures
from console.web.overview.reply import ChartsReply, OverviewReply
from console.web.overview.simulation import MESSAGES
from console.web.render import Note, json_reply, parameters, render_page, see_other
from console.web.route import API, Json, NoParameters, Parameters, Route
from console.web.sampling.alert_rules import RULES
from console.web.sampling.findings import Range
from console.web.state import ConsoleState, identity_of, state_of
from stream.redis.client import limit_wait

TWIN = f"{API}/overview"
AVERAGE_SECONDS = 10.0
MINUTE_SECONDS = 60.0
STEPS_SECONDS = 0.5


class OverviewParameters(Parameters):
    """``span`` is the time that the charts show; with ``tables`` they are a table."""

    span: Range = Range.MINUTES_15
    tables: Literal["", "1"] = ""


class SeriesParameters(Parameters):
    """``span`` is the time that the charts show."""

    span: Range = Range.MINUTES_15


async def read(state: ConsoleState, _chosen: OverviewParameters, _identity: Identity) -> Json:
    """Return the page's data. It does not fail if Redis or the database is away."""
    if state.sampler.latest.redis.away is None:
        with suppress(RedisError):
            await state.find_answering()
    sampler, latest = state.sampler, state.sampler.latest
    rates, minute = sampler.rates(AVERAGE_SECONDS), sampler.rates(MINUTE_SECONDS)
    recent, day = await sampler.series(Range.MINUTES_15), await sampler.series(Range.DAY)
    verdict, alerts = sampler.verdict, sampler.alerts
    return {
        "taken_at": latest.taken_at,
        "is_first_run": is_first_run(latest),
        "verdict": {
            "tone": verdict.tone,
            "title": verdict.title,
            "sentences": verdict.sentences,
            "group": verdict.group,
        },
        "flow": describe_flow(latest, rates, day),
        "handled_per_second": rates.handled,
        "groups": describe_groups(latest, rates, minute, recent),
        "failures": list_failures(latest),
        "alerts": [
            {
                "name": alert.name,
                "severity": alert.severity,
                "subject": alert.subject,
                "summary": alert.summary,
                "risk": alert.risk,
                "next_step": alert.next_step,
                "runbook": alert.runbook,
                "since": alert.since,
            }
            for alert in alerts
        ],
    }


async def _read_page(state: ConsoleState, chosen: OverviewParameters, identity: Identity) -> Json:
    """Return the page's data with the parts that only HTML needs: legends, the table of the charts, the steps."""
    data = await read(state, chosen, identity)
    charts = draw_charts(await state.sampler.series(chosen.span), state.sampler.latest.groups)
    lines = charts["lines"]["outstanding"]
    return data | {
        "span": chosen.span,
        "rules": len(RULES),
        "quiet_rules": len(RULES) - len({alert["name"] for alert in data["alerts"]}),
        "outstanding": [(line["tone"], line["label"], format_number(_newest(line["values"]))) for line in lines],
        "outstanding_columns": [(f"Outstanding: {line['label']}", "n") for line in lines],
        "has_tables": bool(chosen.tables),
        "table": tabulate(charts) if chosen.tables else [],
        "steps": await _read_steps(state),
        "ingest_url": state.settings.ingest_url if data["is_first_run"] else "",
        "needs_signature": state.settings.signature_secrets is not None,
    }


def _newest(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


async def _read_steps(state: ConsoleState) -> list[Json]:
    """Return the first steps; none while Redis is away, which must not hold up the page."""
    latest = state.sampler.latest
    if latest.redis.away is not None:
        return []
    try:
        async with limit_wait(STEPS_SECONDS):
            return await list_steps(latest, state.settings, state.server, await state.find_answering())
    except RedisError:
        return []


async def view(request: web.Request) -> web.Response:
    """Show the page."""
    data = await _read_page(state_of(request), await parameters(request, OverviewParameters), identity_of(request))
    return render_page(
        request, "overview.html", data, title="Overview", command="ackstream stats", twin=TWIN, live="overview"
    )


async def twin(request: web.Request) -> web.Response:
    """Answer the page's data."""
    chosen = await parameters(request, OverviewParameters)
    return json_reply(await read(state_of(request), chosen, identity_of(request)))


async def series(request: web.Request) -> web.Response:
    """Answer the lines of the charts."""
    chosen, sampler = await parameters(request, SeriesParameters), state_of(request).sampler
    return json_reply(draw_charts(await sampler.series(chosen.span), sampler.latest.groups))


async def simulate(request: web.Request) -> web.Response:
    """Send made-up messages, while no other webhook has arrived."""
    await parameters(request, NoParameters)
    state = state_of(request)
    if not is_first_run(state.sampler.latest):
        text = "Made-up statuses would mix with real ones. `ackstream simulate` sends them anyway."
        return see_other(request, "/", Note("Not sent: webhooks have arrived already.", text, "bad"))
    state.simulation.start()
    await state.audit.record(identity_of(request), action="simulate", count=MESSAGES, result="started")
    text = "About 1,200 webhooks in 6 seconds. The numbers below move by themselves."
    return see_other(request, "/", Note(f"Started: {MESSAGES} made-up messages go to ingest.", text))


ROUTES = [
    Route("GET", "/", view, Role.VIEWER, OverviewParameters, summary="Overview"),
    Route("GET", TWIN, twin, Role.VIEWER, OverviewParameters, OverviewReply, "Overview"),
    Route("GET", f"{TWIN}/series", series, Role.VIEWER, SeriesParameters, ChartsReply, "Lines of the charts"),
    Route("POST", "/simulate", simulate, Role.OPERATOR, summary="Send made-up messages"),
]
LIVE = LivePage(
    "overview",
    "overview.html",
    (
        "verdict",
        "flow",
        "flow_time",
        "first_steps",
        "key_rate",
        "key_answer",
        "key_outstanding",
        "groups",
        "failures_news",
        "alerts",
        "later_steps",
    ),
    _read_page,
    OverviewParameters,
)
