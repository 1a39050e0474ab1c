"""The audit log: each action with its person, scope, reason and result."""

from collections.abc import AsyncGenerator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from aiohttp import web
from pydantic import AfterValidator, Field, StringConstraints

from console.time_args import parse_time_ms
from console.web.access.audit import MAX_PAGE, AuditEntry
from console.web.access.roles import Identity
from console.web.lists.csv_stream import send_csv
from console.web.pages.run.replies import AuditReply
from console.web.render import json_reply, parameters, render_page
from console.web.route import API, Json, Parameters, Route
from console.web.state import ConsoleState, identity_of, state_of
from runtime.errors import CommandError

PAGE_ROWS = 50
COLUMNS = ("at", "who", "role", "address", "action", "scope", "count", "why", "result")
ACTIONS = (
    "session",
    "replays",
    "groups",
    "dead-letters",
    "invalid",
    "quarantine",
    "messages",
    "simulate",
    "user",
    "token",
    "link",
)
"""The first words of the actions, for the filter."""


def _moment(text: str) -> str:
    try:
        parse_time_ms(text, 0)
    except CommandError as exc:
        raise ValueError(str(exc)) from None
    return text


Text = Annotated[str, StringConstraints(max_length=200)]
Moment = Annotated[str, StringConstraints(max_length=40), AfterValidator(_moment)]


class AuditFilter(Parameters):
    """Entries to show. ``action`` is an action, or its first word such as ``replays``; times are UTC, or ages."""

    who: Text = ""
    action: Text = ""
    since: Moment | None = None
    until: Moment | None = None


class AuditParameters(AuditFilter):
    """A page of the log. ``before`` is the id of the last entry of the page before."""

    before: Annotated[int | None, Field(ge=1, le=2**62)] = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE - 1)] = PAGE_ROWS


async def read(state: ConsoleState, chosen: AuditParameters, _identity: Identity) -> Json:
    """Return a page of entries, and the query of the next one."""
    entries = await _read_page(state, chosen, chosen.before, chosen.limit + 1)
    page = entries[: chosen.limit]
    query = {name: value for name, value in chosen.model_dump(include=set(AuditFilter.model_fields)).items() if value}
    has_more = len(entries) > chosen.limit
    return {
        "entries": [_describe(entry) for entry in page],
        "next": urlencode({**query, "before": page[-1].id}) if has_more else None,
        "first": urlencode(query) if chosen.before else None,
        "query": urlencode(query),
        "chosen": {name: query.get(name, "") for name in AuditFilter.model_fields},
        "actions": ACTIONS,
    }


async def _read_page(state: ConsoleState, chosen: AuditFilter, before: int | None, limit: int) -> list[AuditEntry]:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    since, until = (parse_time_ms(text, now_ms) / 1000 if text else None for text in (chosen.since, chosen.until))
    return await state.audit.read(
        who=chosen.who, action=chosen.action, since=since, until=until, before=before, limit=limit
    )


def _describe(entry: AuditEntry) -> dict[str, Any]:
    return {**asdict(entry), "at": datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds")}


async def view(request: web.Request) -> web.Response:
    """Show the page."""
    data = await read(state_of(request), await parameters(request, AuditParameters), identity_of(request))
    return render_page(request, "audit.html", data, title="Audit log", twin=f"{API}/audit")


async def twin(request: web.Request) -> web.Response:
    """Answer a page of entries."""
    data = await read(state_of(request), await parameters(request, AuditParameters), identity_of(request))
    return json_reply({"entries": data["entries"], "next": data["next"]})


async def export(request: web.Request) -> web.StreamResponse:
    """Stream all entries of the filter as CSV, the newest first."""
    chosen = await parameters(request, AuditFilter)
    return await send_csv(request, "audit.csv", COLUMNS, _read_rows(state_of(request), chosen))


async def _read_rows(state: ConsoleState, chosen: AuditFilter) -> AsyncGenerator[list[list[Any]], None]:
    before: int | None = None
    while page := await _read_page(state, chosen, before, MAX_PAGE):
        yield [[_describe(entry)[column] for column in COLUMNS] for entry in page]
        before = page[-1].id


ROUTES = [
    Route("GET", "/audit", view, parameters=AuditParameters, summary="Audit log"),
    Route("GET", "/audit.csv", export, parameters=AuditFilter, summary="Export the audit log"),
    Route("GET", f"{API}/audit", twin, parameters=AuditParameters, reply=AuditReply, summary="List the audit log"),
]
