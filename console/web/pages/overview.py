"""The first page: whether statuses flow, where they stop, since when, and the next step."""

from typing import Literal

from aiohttp import web

from console.web.access.roles import Identity
from console.web.live import LivePage
from console.web.render import json_reply, parameters, render_page
from console.web.route import API, Json, Parameters, Route
from console.web.state import ConsoleState, identity_of, state_of

Span = Literal["15m", "1h", "6h", "24h", "7d"]


class OverviewParameters(Parameters):
    """``span`` is the time that the charts show."""

    span: Span = "15m"


async def read(state: ConsoleState, chosen: OverviewParameters, _identity: Identity) -> Json:
    """Return what the page shows."""
    latest = state.sampler.latest
    return {"span": chosen.span, "taken_at": latest.taken_at, "groups": list(latest.groups)}


async def view(request: web.Request) -> web.Response:
    """Show the page."""
    data = await read(state_of(request), await parameters(request, OverviewParameters), identity_of(request))
    return render_page(
        request,
        "overview.html",
        data,
        title="Overview",
        command="ackstream stats",
        twin=f"{API}/overview",
        live="overview",
    )


async def twin(request: web.Request) -> web.Response:
    """Answer the page's data."""
    return json_reply(
        await read(state_of(request), await parameters(request, OverviewParameters), identity_of(request))
    )


ROUTES = [
    Route("GET", "/", view, parameters=OverviewParameters, summary="Overview"),
    Route("GET", f"{API}/overview", twin, parameters=OverviewParameters, summary="Overview"),
]
LIVE = LivePage("overview", "overview.html", ("verdict",), read, OverviewParameters)
