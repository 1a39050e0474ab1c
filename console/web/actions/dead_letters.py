"""Replays and discards dead letters of one group."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from console.queries.causes.cause import Cause
from console.queries.causes.dead import DeadScope, discard_selected, replay_dead, select_dead
from console.queries.selection import build_filter
from console.time_args import parse_time_ms
from console.web.access.roles import Identity
from console.web.actions.bulk import ActionResult, BulkBody
from console.web.filters import count_noun, format_duration
from console.web.render import Note
from console.web.state import ConsoleState
from runtime.errors import CommandError

DEFAULT_RATE = 50
QUICK_SECONDS = 10


def _time(text: str) -> str:
    try:
        parse_time_ms(text, 0)
    except CommandError as exc:
        raise ValueError(str(exc)) from None
    return text


GroupName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
TimeText = Annotated[str, StringConstraints(max_length=40), AfterValidator(_time)]


class DeadBody(BulkBody):
    """Dead letters of one group."""

    group: GroupName
    since: TimeText | None = None


class ReplayBody(DeadBody):
    """Dead letters to replay, and how many a second."""

    rate: float = Field(DEFAULT_RATE, ge=0.01, le=100_000)


async def _select(state: ConsoleState, body: DeadBody) -> tuple[DeadScope, Cause]:
    """Return the dead letters of the action. Raises NumberChanged and ShardsAway."""
    scope = DeadScope(await state.require_all(), [body.group], build_filter(since=body.since, ids=body.ids), body.last)
    scope, selected = await select_dead(state.server, scope, body.cause, body.sample)
    body.require(selected.count)
    return scope, selected


def _scope_text(scope: DeadScope) -> str:
    return f"group={scope.groups[0]} {scope.selection.scope}"


async def start_replay(state: ConsoleState, identity: Identity, body: ReplayBody) -> ActionResult:
    """Start a replay of dead letters to their group."""
    scope, selected = await _select(state, body)
    started = await replay_dead(state.server, scope, selected, body.rate, person=identity.name, why=body.why)
    group = state.sampler.latest.groups.get(body.group)
    waits = group is not None and group.alive == 0
    title = f"Started: {count_noun(selected.count, 'dead letter')} to {body.group}."
    seconds = selected.count / body.rate
    duration = f"About {format_duration(seconds)}." if seconds > QUICK_SECONDS else ""
    advice = f"No worker of {body.group} runs: the replay waits for one." if waits else duration
    note = Note(title, advice, "warn" if waits else "ok", "/replays", f"Watch {started.id}")
    reply = {"replays": [{"replay": started.id, "total": started.total}]}
    return ActionResult(selected.count, _scope_text(scope), f"replay {started.id} started", note, reply)


async def discard(state: ConsoleState, _identity: Identity, body: DeadBody) -> ActionResult:
    """Drop dead letters for good."""
    scope, selected = await _select(state, body)
    number = await discard_selected(state.server, scope, selected)
    note = Note(f"Discarded: {count_noun(number, 'dead letter')} of {body.group}.")
    return ActionResult(number, _scope_text(scope), f"{number} discarded", note)
