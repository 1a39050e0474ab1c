"""The checks of `ackstream doctor`: the last report, and a button that runs them in the background."""

import asyncio
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from console.doctor.board import CheckRun
from console.doctor.report import format_verdict
from console.doctor.setup import ROLES, Setup, load_setup
from console.web.access.roles import Identity, Role
from console.web.live import LivePage
from console.web.pages.run.replies import Reply
from console.web.pages.run.settings_page import KINDS
from console.web.render import Note, json_reply, parameters, render_page, see_other
from console.web.route import API, Json, NoParameters, Route
from console.web.state import ConsoleState, identity_of, state_of
from runtime import run_file

PAGE = "/checks"
START_SECONDS = 1.0
"""The form waits this long for the report: without a fault the checks take less."""


class FindingReply(Reply):
    """A finding, as `ackstream doctor --json` prints it."""

    id: str
    severity: Literal["problem", "note"]
    what: str
    fix: str


class ProbeReply(Reply):
    """The way of the self-test, in seconds since it was sent. Null was not reached."""

    url: str
    status: int | None
    answered: float | None
    entry: str | None
    on_stream: float | None
    settled: dict[str, float | None] = Field(description="group → when it had settled the entry")


class DoctorReply(Reply):
    """The last run of the checks. Without one, and while the first one runs, the list is empty and ``at`` is null."""

    at: float | None
    by: str | None
    running: bool
    findings: list[FindingReply]
    probe: ProbeReply | None
    checked: list[str]
    skipped: list[str]
    seconds: float | None


async def read(state: ConsoleState, _chosen: NoParameters, _identity: Identity) -> Json:
    """Return the last report, and the parts that are being checked now."""
    last, pending = state.checks.last, state.checks.pending
    return {
        "last": _describe(last),
        "findings": last.report.findings if last else [],
        "verdict": format_verdict(last.report) if last else "",
        "problems": last.report.problems if last else 0,
        "pending": pending,
        "is_running": pending is not None,
        "is_partial": run_file.find_running(state.settings.data) is None,
    }


def _describe(last: CheckRun | None) -> Json:
    report: Json = {"findings": [], "probe": None, "checked": [], "skipped": [], "seconds": None}
    if last is None:
        return {"at": None, "by": None, **report}
    return {"at": last.at, "by": last.by, **last.report.summary()}


def run(state: ConsoleState, identity: Identity) -> "asyncio.Task[CheckRun]":
    """Start the checks, or join those that run. The audit log gets the result."""

    async def record(done: CheckRun) -> None:
        number, result = len(done.report.findings), format_verdict(done.report)
        await state.audit.record(identity, action="doctor.run", count=number, result=result)

    return state.checks.start(lambda: make_setup(state), identity.name, record)


def make_setup(state: ConsoleState) -> Setup:
    """Return the installation as the console sees it: all processes of a running `up`, else itself and the servers."""
    settings = state.settings
    kinds: Any = dict(zip(ROLES, KINDS, strict=True))
    if run_file.find_running(settings.data) is not None:
        return load_setup(kinds, data=settings.data)
    return Setup(("console",), settings, console=settings, kinds=KINDS, url=settings.ingest_url)


async def view(request: web.Request) -> web.Response:
    """Show the page."""
    data = await read(state_of(request), await parameters(request, NoParameters), identity_of(request))
    return render_page(
        request, "checks.html", data, title="Checks", command="ackstream doctor", twin=f"{API}/doctor", live="checks"
    )


async def start(request: web.Request) -> web.Response:
    """Run the checks; a run that takes long continues while the page shows its progress."""
    await parameters(request, NoParameters)
    running = run(state_of(request), identity_of(request))
    await asyncio.wait([running], timeout=START_SECONDS)
    return see_other(request, PAGE, None if running.done() else Note("The checks run.", "Their result appears here."))


async def twin(request: web.Request) -> web.Response:
    """Answer the last report."""
    await parameters(request, NoParameters)
    state = state_of(request)
    return json_reply({**_describe(state.checks.last), "running": state.checks.pending is not None})


async def act(request: web.Request) -> web.Response:
    """Run the checks, and answer the report."""
    await parameters(request, NoParameters)
    done = await asyncio.shield(run(state_of(request), identity_of(request)))
    return json_reply({**_describe(done), "running": False})


ROUTES = [
    Route("GET", PAGE, view, summary="Checks"),
    Route("POST", PAGE, start, Role.OPERATOR, summary="Run the checks"),
    Route("GET", f"{API}/doctor", twin, reply=DoctorReply, summary="The last run of the checks"),
    Route("POST", f"{API}/doctor", act, Role.OPERATOR, reply=DoctorReply, summary="Run the checks"),
]
LIVE = LivePage("checks", "checks.html", ("checks",), read)
