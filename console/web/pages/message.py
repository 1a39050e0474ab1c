"""One message: its state, the way of each webhook through the groups, and its payloads.

Numbers, error messages and payloads are shown whole only in the answer to a reveal, which the audit log has.
"""

import shlex
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import quote

from aiohttp import web
from pydantic import BaseModel, Field, StringConstraints
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from console.queries.codes.error_codes import explain_code
from console.queries.replays import ReplayRequest, plan_all, start
from console.queries.timeline.payload import show_payload
from console.queries.timeline.summary import list_milestones, sum_up_groups
from console.queries.timeline.timeline import Timeline, find_timelines, list_stored
from console.queries.trace import StoredMessage, read_message
from console.web.access.roles import Identity, Role
from console.web.actions.bulk import EntryText, Why
from console.web.actions.interruption import record_interruption
from console.web.render import Note, json_reply, parameters, render_page, see_other
from console.web.route import API, Json, Parameters, Route
from console.web.state import ConsoleState, identity_of, state_of
from runtime.errors import CommandError
from stream.entry import EntryId
from worker.replay.entry_filter import EntryFilter
from worker.replay.job import Place
from worker.store.database import DatabaseAway

REPLAY_RATE = 100.0
DATABASE_ERRORS = (DatabaseAway, DBAPIError, PoolTimeoutError, OSError)


MessageId = Annotated[str, StringConstraints(min_length=1, max_length=255, strip_whitespace=False)]


class MessagePath(Parameters):
    """The message. ``entry`` is one of its webhooks: its payload is shown, and the tables may lack it."""

    message_uuid: MessageId
    entry: EntryText | None = None


class RevealMessage(MessagePath):
    """A reveal of the numbers, error messages and payloads of the message."""

    why: Why


class ReplayMessage(MessagePath):
    """A replay of the webhooks of the message to one group.

    ``source`` is the stream, or the dead letters of the group, which are removed. ``expected`` is the number that the
    person has seen.
    """

    group: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    source: Literal["stream", "dead"] = "stream"
    expected: Annotated[int, Field(ge=1, le=1000)]
    why: Why


class MessageReply(BaseModel):
    """A message. ``webhooks`` has each webhook with its state in every group and its steps."""

    message: dict[str, Any]
    meaning: dict[str, str] | None
    is_stored: bool
    redis_away: bool
    database_away: bool
    away: list[dict[str, Any]]
    webhooks: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    unsearched: list[dict[str, Any]]
    payload: dict[str, Any] | None
    on_stream: int


class ReplayStarted(BaseModel):
    """A replay that was started."""

    replay: str
    group: str
    entries: int


class CountChanged(Exception):  # noqa: N818 - the person decides again
    """The number of entries to replay has changed."""

    def __init__(self, number: int) -> None:
        super().__init__(f"There are {number} now. Nothing was replayed.")


@dataclass(slots=True)
class _Facts:
    """The sources of a message, and which of them do not answer."""

    stored: StoredMessage | None = None
    timeline: Timeline = field(default_factory=Timeline)
    redis_away: bool = False
    database_away: bool = False


async def read(state: ConsoleState, chosen: MessagePath, _identity: Identity, *, reveal: bool = False) -> Json:
    """Return the message, its webhooks, and the payload of one of them. Raises HTTPNotFound.

    If one of Redis and the database is away, the other's facts are returned.
    """
    facts = await _gather(state, chosen, reveal=reveal)
    events = facts.timeline.events
    if facts.stored is None and not events:
        raise web.HTTPNotFound(text=f"No message has the id {chosen.message_uuid}. {state.fault}".strip())
    message = facts.stored or StoredMessage.from_events(events.values())
    webhooks = facts.timeline.webhooks
    entry = chosen.entry if chosen.entry in events else webhooks[-1]["entry"]
    return {
        "message": message.describe(reveal=reveal),
        "meaning": _explain_error(message),
        "is_stored": facts.stored is not None,
        "redis_away": facts.redis_away,
        "database_away": facts.database_away,
        "away": state.describe_away(),
        "webhooks": webhooks,
        "groups": sum_up_groups(webhooks),
        "unsearched": facts.timeline.unsearched,
        "payload": {"entry": entry, "text": show_payload(events[entry].raw, reveal=reveal)},
        "on_stream": sum(bool(webhook["is_on_stream"]) for webhook in webhooks),
    }


def _explain_error(message: StoredMessage) -> Json | None:
    """Return meaning, advice and source of the error code; None without a documented one."""
    code = message.state["error_code"]
    error = explain_code(code) if code else None
    return asdict(error) if error else None


async def _gather(state: ConsoleState, chosen: MessagePath, *, reveal: bool) -> _Facts:
    facts, away = _Facts(), None
    try:
        facts.stored = await read_message(state.engine, chosen.message_uuid)
    except DATABASE_ERRORS as exc:
        facts.database_away, away = True, exc
    events = facts.stored.events if facts.stored else ()
    entry = EntryId.from_text(chosen.entry) if chosen.entry else None
    try:
        shards = await state.find_answering()
        facts.timeline = await find_timelines(state.server, shards, chosen.message_uuid, events, entry, reveal=reveal)
    except RedisError:
        if facts.stored is None:
            raise
        facts.redis_away, facts.timeline = True, list_stored(events)
    if away is not None and not facts.timeline.events:
        raise away
    return facts


async def view(request: web.Request) -> web.Response:
    """Show the message."""
    chosen = await parameters(request, MessagePath)
    try:
        data = await read(state_of(request), chosen, identity_of(request))
    except web.HTTPNotFound:
        return _show_missing(request, chosen.message_uuid)
    return _render(request, chosen, data)


async def twin(request: web.Request) -> web.Response:
    """Return the message as JSON."""
    return json_reply(await read(state_of(request), await parameters(request, MessagePath), identity_of(request)))


async def _reveal(request: web.Request) -> tuple[RevealMessage, Json]:
    state, identity = state_of(request), identity_of(request)
    body = await parameters(request, RevealMessage)
    data = await read(state, body, identity, reveal=True)
    scope = f"message={body.message_uuid}"
    await state.audit.record(identity, action="messages.reveal", scope=scope, count=1, why=body.why, result="shown")
    return body, data


async def reveal_page(request: web.Request) -> web.Response:
    """Show the message once with whole numbers, error messages and payloads."""
    return _render(request, *await _reveal(request), revealed=True)


async def reveal_twin(request: web.Request) -> web.Response:
    """Return the message with whole numbers, error messages and payloads."""
    return json_reply((await _reveal(request))[1])


async def start_replay(state: ConsoleState, identity: Identity, body: ReplayMessage) -> Json:
    """Start a replay of the message's entries. Raises CountChanged, CommandError, ShardsAway or HTTPNotFound."""
    every = await state.require_all()
    data = await read(state, body, identity)
    ids = _list_entries(data, body)
    if len(ids) != body.expected:
        raise CountChanged(len(ids))
    place = Place.DEAD if body.source == "dead" else Place.STREAM
    selection, numbers = EntryFilter(ids=tuple(ids)), {EntryId.from_text(text).shard for text in ids}
    shards = [shard for shard in every if shard.number in numbers]
    request = ReplayRequest(shards[0], body.group, place, selection, REPLAY_RATE, None)
    planned = await plan_all(state.server, shards, request)
    if (number := sum(result.entries for _, result in planned)) != body.expected:
        raise CountChanged(number)
    action, scope = "messages.replay", f"message={body.message_uuid} group={body.group} source={body.source}"
    async with record_interruption(state.audit, identity, action=action, scope=scope, why=body.why):
        replay = await start(state.server, planned, person=identity.name, why=body.why)
    result = f"replay {replay.id} started"
    await state.audit.record(identity, action=action, scope=scope, count=len(ids), why=body.why, result=result)
    return {"replay": replay.id, "group": body.group, "entries": len(ids)}


def _list_entries(data: Json, body: ReplayMessage) -> list[str]:
    if body.source == "dead":
        return [dead for group in data["groups"] if group["group"] == body.group for dead in group["dead_letters"]]
    return [webhook["entry"] for webhook in data["webhooks"] if webhook["is_on_stream"]]


async def replay_page(request: web.Request) -> web.Response:
    """Start the replay, and show the message; or show the dialog again with the reason."""
    state, identity = state_of(request), identity_of(request)
    body = await parameters(request, ReplayMessage)
    try:
        started = await start_replay(state, identity, body)
    except (CountChanged, CommandError) as exc:
        data = await read(state, body, identity)
        return _render(request, body, data, dialog=(body.source, body.group), fault=str(exc), status=409)
    noun = "webhook" if started["entries"] == 1 else "webhooks"
    note = Note(
        f"Started: {started['entries']} {noun} of this message go to {body.group}.",
        "They come after live ones.",
        link="/replays",
        link_text=f"Watch replay {started['replay']}",
    )
    return see_other(request, _path(body.message_uuid), note)


async def replay_twin(request: web.Request) -> web.Response:
    """Start the replay; 409 if the number of entries has changed or the group cannot take them."""
    body = await parameters(request, ReplayMessage)
    try:
        return json_reply(await start_replay(state_of(request), identity_of(request), body))
    except (CountChanged, CommandError) as exc:
        return json_reply({"error": str(exc)}, 409)


def _path(message_uuid: str) -> str:
    return f"/messages/{quote(message_uuid, safe='')}"


def _render(
    request: web.Request,
    chosen: MessagePath,
    data: Json,
    *,
    revealed: bool = False,
    dialog: tuple[str, str] = ("", ""),
    fault: str = "",
    status: int = 200,
) -> web.Response:
    path = _path(chosen.message_uuid)
    milestones = list_milestones(data["message"]["statuses"])
    shown = {**data, "path": path, "revealed": revealed, "dialog": dialog, "fault": fault, "milestones": milestones}
    title, command = f"Message {chosen.message_uuid[:8]}", f"ackstream trace {shlex.quote(chosen.message_uuid)}"
    return render_page(request, "message.html", shown, title=title, command=command, twin=f"{API}{path}", status=status)


def _show_missing(request: web.Request, message_uuid: str) -> web.Response:
    heading = "No message has this id"
    advice = (
        f"{message_uuid} is not in the tables, not among the entries that a group has yet to settle, and not among the "
        "delayed retries and dead letters. Check for a typing error, or search for its entry id."
    )
    data = {"heading": heading, "advice": advice, "faults": {}}
    return render_page(request, "error.html", data, title=heading, status=404)


PATH = "/messages/{message_uuid}"
ROUTES = [
    Route("GET", PATH, view, Role.VIEWER, MessagePath, summary="One message"),
    Route("POST", f"{PATH}/reveal", reveal_page, Role.OPERATOR, RevealMessage, summary="Show whole numbers"),
    Route("POST", f"{PATH}/replay", replay_page, Role.OPERATOR, ReplayMessage, summary="Replay a message"),
    Route("GET", f"{API}{PATH}", twin, Role.VIEWER, MessagePath, MessageReply, "One message"),
    Route("POST", f"{API}{PATH}/reveal", reveal_twin, Role.OPERATOR, RevealMessage, MessageReply, "Show whole numbers"),
    Route("POST", f"{API}{PATH}/replay", replay_twin, Role.OPERATOR, ReplayMessage, ReplayStarted, "Replay a message"),
]
