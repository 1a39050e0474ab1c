"""The groups: open work, speed, pauses, and the part of the stream that each keeps."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from aiohttp import web

from console.format import format_away
from console.queries.run.group_overview import GroupOverview, read_overview
from console.queries.run.outstanding import InexactCount, UnknownGroup, count_outstanding
from console.web.access.audit import mask_digits
from console.web.access.roles import Identity
from console.web.live import LivePage
from console.web.pages.run.group_names import GroupName
from console.web.pages.run.replies import GroupsReply, OutstandingReply
from console.web.render import json_reply, parameters, render_page
from console.web.route import API, Json, NoParameters, Route
from console.web.sampling.rates import GroupRates
from console.web.sampling.snapshot import BACKLOG, GroupSample
from console.web.state import ConsoleState, identity_of, state_of
from worker.dispatch.pause import PauseRecord, describe_reason
from worker.events.timestamps import iso_time

RATE_SECONDS = 10
BEHIND_SECONDS = 60.0
"""A group whose oldest entry is older than this is behind."""
STATES = {
    "healthy": ("ok", "ok", "Healthy"),
    "behind": ("warn", "warn", "Behind"),
    "paused": ("warn", "pause", "Paused"),
    "unattended": ("bad", "bad", "Nobody reads"),
    "waiting": ("warn", "wait", "Target away"),
    "missing": ("warn", "warn", "Missing"),
    "foreign": ("off", "off", "Of another program"),
    "replay": ("run", "replay", "Replay"),
}
"""The look of each state: tone, icon and word."""


async def read(state: ConsoleState, _chosen: NoParameters, _identity: Identity) -> Json:
    """Return all groups, each over all shards."""
    rows = await read_rows(state)
    own = [row for row in rows if row["registered"]]
    return {
        "groups": own,
        "others": [row for row in rows if not row["registered"]],
        "looks": STATES,
        "away": state.describe_away(),
    }


async def read_rows(state: ConsoleState) -> list[dict[str, Any]]:
    """Return the groups for JSON, without the shards of a cluster that are away. Raises RedisError."""
    latest, rates = state.sampler.latest, state.sampler.rates(RATE_SECONDS).groups
    handlers = state.sampler.reports.find_handlers()
    overviews = await read_overview(state.server, await state.find_answering())
    return [
        describe_group(
            group,
            latest.groups.get(group.position.name),
            rates.get(group.position.name),
            handlers.get(group.position.name),
            is_waiting=group.position.name in latest.waiting,
        )
        for group in overviews
    ]


def describe_group(
    group: GroupOverview,
    sample: GroupSample | None,
    rates: GroupRates | None,
    handler: str | None,
    *,
    is_waiting: bool = False,
) -> dict[str, Any]:
    """Return a group for JSON. Unknown values are null. ``is_waiting``: its target is away."""
    position = group.position
    alive = sample.alive if sample else None
    row = {
        "group": position.name,
        "path": quote(position.name, safe=""),
        "handler": handler,
        "registered": position.registered,
        "exists": position.exists,
        "alive": alive,
        "unread": position.unread,
        "pending": position.pending,
        "delayed": group.delayed,
        "retries": group.retries,
        "replays": group.replays,
        "dead": group.dead,
        "outstanding": group.outstanding,
        "oldest_seconds": group.kept.seconds,
        "kept": group.kept.summary(),
        "paused": describe_pause(pause) if (pause := group.pause or find_backlog_pause(sample)) else None,
        "settled_per_second": rates and rates.settled,
        "handled_per_second": rates and rates.handled,
        "failed_share": rates and rates.failed_share,
        "handle_p50": rates and rates.handle.quantile(0.5),
        "handle_p99": rates and rates.handle.quantile(0.99),
    }
    return {**row, "state": _state_of(row, is_waiting=is_waiting)}


def find_backlog_pause(sample: GroupSample | None) -> PauseRecord | None:
    """Return the pause that only workers know; None without it."""
    is_full = sample is not None and sample.paused is not None and sample.paused.reason == BACKLOG
    return PauseRecord(BACKLOG, None, "", "", None) if is_full else None


def describe_pause(pause: PauseRecord) -> dict[str, Any]:
    """Return a pause for JSON."""
    return {
        "reason": pause.reason,
        "meaning": describe_reason(pause.reason),
        "since": iso_time(pause.since_ms),
        "by": pause.person or None,
        "why": mask_digits(pause.why) if pause.why else None,
        "next_probe": iso_time(pause.next_probe_ms),
    }


def _state_of(row: dict[str, Any], *, is_waiting: bool) -> str:
    if not row["registered"]:
        return "replay" if row["group"].startswith("replay/") else "foreign"
    if row["paused"]:
        return "paused"
    if not row["exists"]:
        return "missing"
    if row["alive"] == 0:
        return "unattended"
    if is_waiting:
        return "waiting"
    return "behind" if (row["oldest_seconds"] or 0) > BEHIND_SECONDS else "healthy"


async def view(request: web.Request) -> web.Response:
    """Show the page."""
    data = await read(state_of(request), await parameters(request, NoParameters), identity_of(request))
    return render_page(
        request,
        "groups.html",
        data,
        title="Groups and workers",
        command="ackstream groups list",
        twin=f"{API}/groups",
        live="groups",
    )


async def twin(request: web.Request) -> web.Response:
    """Answer all groups."""
    await parameters(request, NoParameters)
    data = await read(state_of(request), NoParameters(), identity_of(request))
    return json_reply({"groups": _without_looks([*data["groups"], *data["others"]]), "away": data["away"]})


def _without_looks(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "path"} for row in rows]


async def outstanding(request: web.Request) -> web.Response:
    """Answer the work that is due, for autoscalers: 503 if the number cannot be known, 404 for an unknown group."""
    state, name = state_of(request), (await parameters(request, GroupName)).name
    shards = await state.find_answering()
    if state.away:
        return _refuse_number(format_away(state.away))
    try:
        return json_reply({"outstanding": await count_outstanding(state.server, shards, name)})
    except UnknownGroup:
        return json_reply({"error": f"no group {name!r} is registered"}, 404)
    except InexactCount as exc:
        return _refuse_number(str(exc))


def _refuse_number(why: str) -> web.Response:
    return json_reply({"error": f"The number is not known now: {why}."}, 503)


ROUTES = [
    Route("GET", "/groups", view, summary="Groups and workers"),
    Route("GET", f"{API}/groups", twin, reply=GroupsReply, summary="List groups"),
    Route(
        "GET",
        f"{API}/groups/{{name}}/outstanding",
        outstanding,
        parameters=GroupName,
        reply=OutstandingReply,
        summary="Work that is due",
    ),
]
LIVE = LivePage("groups", "groups.html", ("groups",), read)
