"""One group: its open work, its handler, its consumers, and the acts on it."""

from typing import Annotated, Any
from urllib.parse import quote

from aiohttp import web
from pydantic import StringConstraints

from console.queries.groups import drop_group, find_group, pause_group, probe_group, resume_group
from console.queries.run.group_overview import ConsumerLine, read_consumers
from console.web.access.roles import Identity, Role
from console.web.filters import count_noun
from console.web.live import LivePage
from console.web.pages.run.acts import ActOutcome, make_act_routes
from console.web.pages.run.group_names import LONGEST_NAME, GroupName
from console.web.pages.run.groups import STATES, read_rows
from console.web.pages.run.replay_plan import Why
from console.web.pages.run.replies import (
    DroppedReply,
    GroupDetailsReply,
    GroupPausedReply,
    GroupProbeReply,
    ResumedReply,
)
from console.web.render import Note, WrongParameter, json_reply, parameters, render_page
from console.web.route import API, Json, Route
from console.web.sampling.snapshot import HandlerError
from console.web.state import ConsoleState, identity_of, state_of
from runtime.errors import CommandError
from worker.retention.ack_floor import AckFloor

OptionalWhy = Annotated[str, StringConstraints(max_length=200)]


class PauseParameters(GroupName):
    """A group to pause."""

    why: Why


class ResumeParameters(GroupName):
    """A group to resume."""

    why: OptionalWhy = ""


class DropParameters(GroupName):
    """A group to drop. ``typed`` repeats its name; ``dead`` drops its dead letters too."""

    typed: Annotated[str, StringConstraints(max_length=LONGEST_NAME)]
    dead: bool = False
    why: Why


async def read(state: ConsoleState, chosen: GroupName, _identity: Identity) -> Json:
    """Return a group with its consumers. Raises HTTPNotFound and RedisError."""
    row = next((row for row in await read_rows(state) if row["group"] == chosen.name), None)
    if row is None:
        raise web.HTTPNotFound(text=f"No group has the name {chosen.name!r}.")
    consumers = await read_consumers(state.server, await state.find_answering(), chosen.name)
    sample = state.sampler.latest.groups.get(chosen.name)
    return {
        **row,
        "away": state.describe_away(),
        "consumers": [_describe_consumer(consumer) for consumer in consumers],
        "failures": [_describe_failure(failure) for failure in sample.failures] if sample else [],
        "looks": STATES,
    }


async def read_live(state: ConsoleState, chosen: GroupName, identity: Identity) -> Json:
    """Return the same for the live stream, and nothing when the group is dropped. Raises RedisError."""
    try:
        return await read(state, chosen, identity)
    except web.HTTPNotFound:
        return {"registered": None}


def _describe_consumer(consumer: ConsumerLine) -> dict[str, Any]:
    return {
        "name": consumer.name,
        "pending": consumer.pending,
        "idle_seconds": consumer.idle_seconds,
        "alive": consumer.is_alive,
    }


def _describe_failure(failure: HandlerError) -> dict[str, Any]:
    return {
        "at": failure.at,
        "entry": failure.entry,
        "error": failure.error,
        "attempt": failure.attempt,
        "dead": failure.is_dead,
        "due": failure.due,
    }


async def view(request: web.Request) -> web.Response:
    """Show the page."""
    chosen = await parameters(request, GroupName)
    data = await read(state_of(request), chosen, identity_of(request))
    return render_page(
        request,
        "group.html",
        data,
        title=chosen.name,
        command="ackstream groups list",
        twin=f"{API}/groups/{data['path']}",
        live="group",
    )


async def twin(request: web.Request) -> web.Response:
    """Answer the group."""
    data = await read(state_of(request), await parameters(request, GroupName), identity_of(request))
    return json_reply({name: value for name, value in data.items() if name not in ("looks", "path")})


async def pause(request: web.Request) -> ActOutcome:
    """Pause a group until a person resumes it."""
    body = await parameters(request, PauseParameters)
    state, identity = state_of(request), identity_of(request)
    await _require(state, body.name)
    await pause_group(state.server, state.shards[0], body.name, identity.name, body.why)
    scope = f"group={body.name}"
    await state.audit.record(identity, action="groups.pause", scope=scope, why=body.why, result="paused")
    note = Note(f"Paused: {body.name}.", "It makes no calls until you resume it. The stream keeps its entries.")
    return ActOutcome({"group": body.name, "paused": "operator"}, note, _path(body.name))


async def probe(request: web.Request) -> ActOutcome:
    """Let a worker try one call of a failing group at once. Raises CommandError if it is not failing."""
    name = (await parameters(request, GroupName)).name
    state, identity = state_of(request), identity_of(request)
    await _require(state, name)
    starts = await probe_group(state.server, state.shards[0], name)
    result = "one call is due" if starts else "a call was being tried already"
    await state.audit.record(identity, action="groups.probe", scope=f"group={name}", result=result)
    note = Note(f"{name} tries one call now.", "If it succeeds, the group goes on by itself.")
    return ActOutcome({"group": name, "probe": "due" if starts else "running"}, note, _path(name))


async def resume(request: web.Request) -> ActOutcome:
    """Resume a paused group at once."""
    body = await parameters(request, ResumeParameters)
    state, identity = state_of(request), identity_of(request)
    await _require(state, body.name)
    reason = await resume_group(state.server, state.shards[0], body.name)
    result = f"resumed; it was paused for: {reason}" if reason else "was not paused"
    await state.audit.record(identity, action="groups.resume", scope=f"group={body.name}", why=body.why, result=result)
    note = Note(f"Resumed: {body.name}.", "If its reason persists, a worker pauses it again.")
    if reason is None:
        note = Note(f"{body.name} is not paused.", tone="")
    return ActOutcome({"group": body.name, "resumed": reason is not None, "reason": reason}, note, _path(body.name))


async def drop(request: web.Request) -> ActOutcome:
    """Drop a group with all its open work. Raises CommandError if it has live consumers."""
    body = await parameters(request, DropParameters)
    state, identity = state_of(request), identity_of(request)
    if body.typed != body.name:
        raise WrongParameter({"typed": "This is not the name of the group. Nothing was dropped."})
    await _require(state, body.name)
    lost = await _drop(state, body)
    result = "dropped with its dead letters" if body.dead else "dropped; its dead letters are kept"
    await state.audit.record(
        identity, action="groups.drop", scope=f"group={body.name}", count=lost, why=body.why, result=result
    )
    note = Note(f"Dropped: {body.name}.", f"{count_noun(lost, 'entry', 'entries')} will not reach it any more.")
    return ActOutcome({"dropped": body.name, "lost": lost, "dead_letters_dropped": body.dead}, note, "/groups")


async def _drop(state: ConsoleState, body: DropParameters) -> int:
    shards = await state.require_all()
    group = await find_group(state.server, shards, body.name)
    if group.liveness.most_alive:
        raise CommandError(f"{body.name} has live consumers ({group.liveness.most_alive}): stop its workers first")
    if not await drop_group(state.server, shards, group, force=False, dead=body.dead):
        raise CommandError(f"a consumer of {body.name} has started: stop its workers first")
    unread = group.standing.unread
    return group.standing.pending + (group.kept_entries if unread is None else unread)


async def _require(state: ConsoleState, name: str) -> None:
    """Raise HTTPNotFound if no shard that answers has the group; ShardsAway without shard 0, which has the pauses."""
    await state.require(0)
    for shard in await state.find_answering():
        survey = await AckFloor(state.server, shard).survey()
        if name in {group.name for group in survey.groups}:
            return
    raise web.HTTPNotFound(text=f"No group has the name {name!r}.")


def _path(name: str) -> str:
    return f"/groups/{quote(name, safe='')}"


def _back(request: web.Request) -> str:
    return _path(request.match_info["name"])


ROUTES = [
    Route("GET", "/groups/{name}", view, parameters=GroupName, summary="A group"),
    Route("GET", f"{API}/groups/{{name}}", twin, parameters=GroupName, reply=GroupDetailsReply, summary="Show a group"),
    *make_act_routes(
        "groups.pause",
        "/groups/{name}/pause",
        pause,
        PauseParameters,
        "Pause a group",
        reply=GroupPausedReply,
        back=_back,
        role=Role.OPERATOR,
    ),
    *make_act_routes(
        "groups.probe",
        "/groups/{name}/probe",
        probe,
        GroupName,
        "Let a failing group try one call now",
        reply=GroupProbeReply,
        back=_back,
        role=Role.OPERATOR,
    ),
    *make_act_routes(
        "groups.resume",
        "/groups/{name}/resume",
        resume,
        ResumeParameters,
        "Resume a group",
        reply=ResumedReply,
        back=_back,
        role=Role.OPERATOR,
    ),
    *make_act_routes(
        "groups.drop",
        "/groups/{name}/drop",
        drop,
        DropParameters,
        "Drop a group",
        reply=DroppedReply,
        back=_back,
        role=Role.ADMIN,
    ),
]
LIVE = LivePage("group", "group.html", ("facts", "consumers"), read_live, GroupName)
