"""The replays: those that run, the plan of a new one, and those that have ended."""

import time
from typing import Any

from aiohttp import web

from console.queries.run.replay_cards import ReplayCard, read_cards
from console.queries.run.replay_plans import TooManyPlans
from console.web.access.audit import mask_digits
from console.web.access.roles import Identity
from console.web.live import LivePage
from console.web.pages.run.replay_plan import ReplayChoice, describe_plan
from console.web.pages.run.replies import ReplaysReply
from console.web.render import json_reply, parameters, render_page
from console.web.route import API, Json, Route
from console.web.state import ConsoleState, identity_of, state_of
from runtime.errors import CommandError
from worker.events.timestamps import iso_time
from worker.group.consumer_group import read_group_names
from worker.replay.entry_filter import EntryFilter
from worker.replay.job import State

SHOWN_SECONDS = 60
"""A replay that has ended is shown with those that run for this long."""
RETRY_SECONDS = 5
STATES = {
    State.RUNNING: ("run", "run", "Running"),
    State.PAUSED: ("warn", "pause", "Paused"),
    State.FAILED: ("bad", "bad", "Failed"),
    State.CANCELLED: ("off", "off", "Cancelled"),
    State.DONE: ("ok", "ok", "Done"),
}
"""The look of each state: tone, icon and word."""
STATUS_CHOICES = ("submitted", "delivered", "read", "rejected", "undeliverable", "rejected,undeliverable")
CHANNEL_NAMES = {
    "sms": "SMS",
    "mms": "MMS",
    "whatsapp": "WhatsApp",
    "messenger": "Messenger",
    "viber_service": "Viber",
    "rcs": "RCS",
}


class ReplaysParameters(ReplayChoice):
    """A choice to plan. ``again`` counts it again; ``changed`` is the number that a start expected in vain."""

    again: bool = False
    changed: int | None = None


async def read(state: ConsoleState, chosen: ReplaysParameters, _identity: Identity) -> Json:
    """Return the replays and, with a group, the plan."""
    return await _read(state, chosen, is_live=False)


async def read_live(state: ConsoleState, chosen: ReplaysParameters, _identity: Identity) -> Json:
    """Return the same for the live stream, which starts no count a second time."""
    return await _read(state, chosen, is_live=True)


async def _read(state: ConsoleState, chosen: ReplaysParameters, *, is_live: bool) -> Json:
    shards = await state.find_answering()
    names = {name for shard in shards for name in await read_group_names(state.server, shard)}
    cards = await read_cards(state.server, shards, state.copy_rates)
    replays = [describe_card(card) for card in cards]
    return {
        "replays": replays,
        "away": state.describe_away(),
        "active": sorted(filter(_is_shown, replays), key=lambda replay: str(replay["started"]["at"])),
        "ended": [replay for replay in replays if not _is_shown(replay)],
        "groups": sorted(names),
        "plan": await _plan(state, chosen, is_live=is_live) if chosen.group else None,
        "choice": chosen.as_form(),
        "query": chosen.query(),
        "changed": chosen.changed,
        "options": _options(sorted(names), chosen),
        "has_archive": state.settings.archive is not None,
        "looks": STATES,
    }


def _options(groups: list[str], chosen: ReplaysParameters) -> dict[str, list[tuple[str, str]]]:
    """Return the choices of the form, as value and text. A value of the URL that is not among them is one more."""
    channels = list(CHANNEL_NAMES.items())
    lists = {
        "groups": [(name, name) for name in groups],
        "statuses": [("", "Any"), *((word, word.replace(",", " or ")) for word in STATUS_CHOICES)],
        "channels": [("", "Any"), *channels],
    }
    for name, value in (("statuses", chosen.status), ("channels", chosen.channel), ("groups", chosen.group)):
        if value and value not in dict(lists[name]):
            lists[name].append((value, value))
    return lists


async def _plan(state: ConsoleState, chosen: ReplaysParameters, *, is_live: bool) -> Json:
    if state.away:
        return {"fault": f"{state.fault} A replay needs all shards.", "is_busy": True}
    try:
        requests = chosen.requests(state)
        counts = []
        for request in requests:
            count = state.plans.recall(request) if is_live else None
            counts.append(count or await state.plans.find(request, again=chosen.again and not is_live))
    except CommandError as exc:
        return {"fault": str(exc), "is_busy": isinstance(exc, TooManyPlans)}
    return describe_plan(chosen, counts)


def describe_card(card: ReplayCard) -> dict[str, Any]:
    """Return a replay for JSON."""
    progress = card.progress
    summary = progress.summary()
    for act in ("started", "moved"):
        summary[act]["why"] = summary[act]["why"] and mask_digits(summary[act]["why"])
    total = summary["total"]
    return {
        **summary,
        "scope": mask_digits(summary["scope"]),
        "error": summary["error"] and mask_digits(summary["error"]),
        "source": progress.replay.place.value,
        "selection": describe_selection(progress.replay.selection),
        "share": progress.done / total if total else None,
        "rate_now": card.rate_now,
        "seconds_left": card.seconds_left,
        "copying": card.copying,
        "waits_for_handler": card.is_full,
        "kept": card.kept.summary() if card.kept else None,
        "has_ended": card.has_ended,
        "took_seconds": (progress.moved.ms - progress.started.ms) / 1000 if card.has_ended else None,
        "state_seconds": max(time.time() - progress.moved.ms / 1000, 0),
    }


def describe_selection(selection: EntryFilter) -> dict[str, Any]:
    """Return the criteria of a filter for JSON."""
    times = {name: iso_time(getattr(selection, f"{name}_ms")) for name in ("since", "until")}
    names = ("ids", "messages", "statuses", "channels", "accounts", "reasons", "errors")
    values = {name: [mask_digits(value) for value in getattr(selection, name)] for name in names}
    return {**times, **values}


def _is_shown(replay: Json) -> bool:
    return not replay["has_ended"] or replay["state_seconds"] < SHOWN_SECONDS


async def view(request: web.Request) -> web.StreamResponse:
    """Show the page. Ages in its query become times."""
    chosen = await parameters(request, ReplaysParameters)
    if (timed := chosen.with_times()) != chosen:
        raise web.HTTPSeeOther(f"/replays?{timed.query()}")
    data = await read(state_of(request), chosen, identity_of(request))
    page = render_page(
        request,
        "replays.html",
        data,
        title="Replays",
        command="ackstream replay list",
        twin=f"{API}/replays",
        live="replays",
    )
    return _ask_to_retry(page) if data["plan"] and data["plan"].get("is_busy") else page


async def twin(request: web.Request) -> web.Response:
    """Answer the replays, and the plan if a group is given."""
    chosen = await parameters(request, ReplaysParameters)
    data = await read(state_of(request), chosen, identity_of(request))
    plan = data["plan"]
    if plan and "fault" in plan:
        answer = json_reply({"error": plan["fault"]}, 400)
        return _ask_to_retry(answer) if plan["is_busy"] else answer
    return json_reply({"replays": data["replays"], "plan": plan, "away": data["away"]})


def _ask_to_retry(answer: web.Response) -> web.Response:
    """Return the answer as 503: the plan can be made later."""
    answer.set_status(503)
    answer.headers["Retry-After"] = str(RETRY_SECONDS)
    return answer


ROUTES = [
    Route("GET", "/replays", view, parameters=ReplaysParameters, summary="Replays"),
    Route(
        "GET",
        f"{API}/replays",
        twin,
        parameters=ReplaysParameters,
        reply=ReplaysReply,
        summary="List replays, or plan one",
    ),
]
LIVE = LivePage("replays", "replays.html", ("active", "plan"), read_live, ReplaysParameters)
