"""The acts on replays: start, change the rate, pause, resume and cancel."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, StringConstraints
from redis.exceptions import RedisError

from console.queries.replays import change_rate, move, start
from console.queries.run.replay_plans import RECOUNT_SECONDS, PlanCount
from console.web.access.roles import Identity, Role
from console.web.actions.interruption import record_interruption
from console.web.filters import format_duration, format_number
from console.web.pages.run.acts import INTERRUPTED, Act, ActOutcome, make_act_routes
from console.web.pages.run.replay_plan import Rate, ReplayChoice, Why
from console.web.pages.run.replies import ReplaySummaryReply, StartReply
from console.web.render import Note, json_reply, parameters, see_other
from console.web.route import API, Json, Parameters, Route
from console.web.state import ConsoleState, identity_of, state_of
from runtime.errors import CommandError
from worker.replay.job import Progress

ReplayId = Annotated[str, StringConstraints(pattern=r"[0-9a-f]{1,16}")]
OptionalWhy = Annotated[str, StringConstraints(max_length=200)]

PAGE = "/replays"
ACTS = {"pause": "Paused", "resume": "Resumed", "cancel": "Cancelled"}


class StartParameters(ReplayChoice):
    """A choice to start. ``expected`` is the number of the plan; another number starts nothing."""

    expected: Annotated[int, Field(ge=1)]
    why: Why


class MoveParameters(Parameters):
    """A replay to pause or to resume."""

    id: ReplayId
    why: OptionalWhy = ""


class CancelParameters(Parameters):
    """A replay to cancel."""

    id: ReplayId
    why: Why


class RateParameters(Parameters):
    """A replay and its new rate."""

    id: ReplayId
    rate: Rate


class PlanChanged(Exception):  # noqa: N818 - the caller asks again
    """The plan has another number than expected, or it takes longer to count. Nothing was started."""

    def __init__(self, number: int, *, complete: bool) -> None:
        super().__init__(number)
        self.number = number
        self.complete = complete


async def start_replay(state: ConsoleState, identity: Identity, body: StartParameters) -> Json:
    """Start the planned replay. Raises PlanChanged, CommandError, PartlyDone, ShardsAway, RedisError."""
    scope = f"group={body.group}"
    async with record_interruption(state.audit, identity, action="replays.start", scope=scope, why=body.why):
        return await _start_planned(state, identity, body)


async def _start_planned(state: ConsoleState, identity: Identity, body: StartParameters) -> Json:
    await state.require_all()
    counts = [await _count(state, request) for request in body.requests(state)]
    number = sum(count.plan.entries for count in counts)
    if any(count.is_running for count in counts) or number != body.expected:
        raise PlanChanged(number, complete=not any(count.is_running for count in counts))
    for count in counts:
        if count.plan.entries and not await state.plans.is_current(count):
            again = await state.plans.find(count.request, seconds=RECOUNT_SECONDS, again=True)
            raise PlanChanged(again.plan.entries, complete=not again.is_running)
    planned = [(request, count.plan) for request, count in zip(body.requests(state), counts, strict=True)]
    started = await start(state.server, planned, person=identity.name, why=body.why)
    await state.audit.record(
        identity,
        action="replays.start",
        scope=f"group={body.group} {started.scope}",
        count=number,
        why=body.why,
        result=f"replay {started.id} started at {body.rate:g} a second",
    )
    return {"replay": started.id, "group": body.group, "total": number, "rate": body.rate}


async def _count(state: ConsoleState, request: Any) -> PlanCount:
    return state.plans.recall(request) or await state.plans.find(request, seconds=RECOUNT_SECONDS)


async def move_replay(state: ConsoleState, identity: Identity, act: str, replay_id: str, why: str) -> Json:
    """Pause, resume or cancel a replay. Raises CommandError, ShardsAway and RedisError."""
    progress = await move(state.server, await state.require_all(), replay_id, act, person=identity.name, why=why)
    await _record(state, identity, f"replays.{act}", progress, why, f"{progress.state}")
    return progress.summary()


async def change_replay_rate(state: ConsoleState, identity: Identity, body: RateParameters) -> Json:
    """Change the rate of a replay. Raises CommandError, ShardsAway and RedisError."""
    progress = await change_rate(state.server, await state.require_all(), body.id, body.rate)
    await _record(state, identity, "replays.rate", progress, "", f"at most {body.rate:g} a second")
    return progress.summary()


async def _record(
    state: ConsoleState, identity: Identity, action: str, progress: Progress, why: str, result: str
) -> None:
    replay = progress.replay
    scope = f"replay={replay.id} group={replay.group}"
    await state.audit.record(identity, action=action, scope=scope, count=replay.total, why=why, result=result)


async def start_form(request: web.Request) -> web.Response:
    """Start a replay, and show it. If its number has changed, return to the plan."""
    body = await parameters(request, StartParameters)
    try:
        result = await start_replay(state_of(request), identity_of(request), body)
    except PlanChanged:
        return see_other(request, f"{PAGE}?{body.query(changed=body.expected)}#plan")
    except CommandError as exc:
        return see_other(request, PAGE, Note("Not started.", str(exc), "bad"))
    except RedisError:
        return see_other(request, PAGE, INTERRUPTED)
    text = f"It takes at least {format_duration(result['total'] / result['rate'])}."
    return see_other(request, PAGE, Note(f"Started: {format_number(result['total'])} go to {body.group}.", text))


async def start_twin(request: web.Request) -> web.Response:
    """Start a replay. 409 if its number has changed, 503 while it is counted."""
    body = await parameters(request, StartParameters)
    try:
        return json_reply(await start_replay(state_of(request), identity_of(request), body))
    except PlanChanged as exc:
        if exc.complete:
            return json_reply({"error": "The number has changed; nothing was started.", "entries": exc.number}, 409)
        answer = json_reply({"error": "The entries are still being counted.", "entries": exc.number}, 503)
        answer.headers["Retry-After"] = "5"
        return answer
    except CommandError as exc:
        return json_reply({"error": str(exc)}, 400)


def _make_move(act: str, model: type[MoveParameters | CancelParameters]) -> Act:
    async def do(request: web.Request) -> ActOutcome:
        body = await parameters(request, model)
        summary = await move_replay(state_of(request), identity_of(request), act, body.id, body.why)
        copied = f"{format_number(summary['done'])} of {format_number(summary['total'])} are copied."
        return ActOutcome(summary, Note(f"{ACTS[act]}: replay {body.id} to {summary['group']}.", copied), PAGE)

    return do


async def _change_rate(request: web.Request) -> ActOutcome:
    body = await parameters(request, RateParameters)
    summary = await change_replay_rate(state_of(request), identity_of(request), body)
    note = Note(f"Replay {body.id} copies at most {body.rate:g} a second.", "Its worker follows within seconds.")
    return ActOutcome(summary, note, PAGE)


def _routes(name: str, act: Act, model: type[Parameters], summary: str) -> list[Route]:
    path = f"{PAGE}/{{id}}/{name}"
    return make_act_routes(
        f"replays.{name}",
        path,
        act,
        model,
        summary,
        reply=ReplaySummaryReply,
        back=lambda _request: PAGE,
        role=Role.OPERATOR,
    )


ROUTES = [
    Route("POST", PAGE, start_form, Role.OPERATOR, StartParameters, summary="Start a replay"),
    Route("POST", f"{API}{PAGE}", start_twin, Role.OPERATOR, StartParameters, StartReply, "Start a replay"),
    *_routes("pause", _make_move("pause", MoveParameters), MoveParameters, "Pause a replay"),
    *_routes("resume", _make_move("resume", MoveParameters), MoveParameters, "Resume a replay"),
    *_routes("cancel", _make_move("cancel", CancelParameters), CancelParameters, "Cancel a replay for good"),
    *_routes("rate", _change_rate, RateParameters, "Change the rate of a replay"),
]
