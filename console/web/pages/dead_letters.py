"""Dead letters by cause: how many there are, whether it still happens, and each one with its last attempts."""

from shlex import quote

from aiohttp import web

from console.queries.causes.counting import Counted
from console.queries.causes.dead import (
    COUNTED_AT_MOST,
    DeadScope,
    count_dead,
    describe_letter,
    read_older,
)
from console.queries.causes.sample import find_sample
from console.queries.dead_letters import DeadLetter, find_dead
from console.queries.selection import build_filter
from console.web.access.roles import Identity, Role
from console.web.actions.bulk import CONFLICT, NEWS_SECONDS, BulkAction, CausePage, Why, link, newest_keys, summarize
from console.web.actions.dead_letters import (
    DEFAULT_RATE,
    DeadBody,
    GroupName,
    ReplayBody,
    TimeText,
    discard,
    start_replay,
)
from console.web.actions.entry import EntryPage, EntryView
from console.web.actions.replies import DeadLetterPageReply, DeadLettersReply, DeadReplayReply
from console.web.live import LivePage
from console.web.render import json_reply, parameters, render_page
from console.web.route import API, Json, Route
from console.web.state import ConsoleState, identity_of, state_of
from stream.entry import EntryId
from worker.events.timestamps import iso_time
from worker.group.consumer_group import read_group_names

PATH = "/dead-letters"


class DeadPage(CausePage):
    """The dead letters of one group or of all, received since a time or an age such as ``24h``."""

    group: GroupName | None = None
    since: TimeText | None = None


class LetterPage(EntryPage):
    """One dead letter of a group."""

    group: GroupName

    @property
    def scope(self) -> str:
        """The dead letter as text, for the audit log."""
        return f"group={self.group} id={self.id}"


class LetterReveal(LetterPage):
    """The dead letter to reveal, and why."""

    why: Why


async def read(state: ConsoleState, chosen: DeadPage, _identity: Identity) -> Json:
    """Return the causes, and the dead letters of one cause."""
    scope, names = await _find_scope(state, chosen)
    counted = await count_dead(state.server, scope)
    return {
        **summarize(counted, COUNTED_AT_MOST),
        "away": state.describe_away(),
        "group": chosen.group,
        "since": iso_time(scope.selection.since_ms),
        "groups": names,
        "cause": await _open_cause(state, scope, counted, chosen),
    }


async def _find_scope(state: ConsoleState, chosen: DeadPage) -> tuple[DeadScope, list[str]]:
    """Return the dead letters of the page, on the shards that answer, and the names of all groups."""
    shards = await state.find_answering()
    names = sorted({name for shard in shards for name in await read_group_names(state.server, shard)})
    return DeadScope(shards, [chosen.group] if chosen.group else names, build_filter(since=chosen.since)), names


async def _open_cause(state: ConsoleState, scope: DeadScope, counted: Counted, chosen: DeadPage) -> Json | None:
    cause = counted.causes.find(chosen.cause)
    if cause is None:
        return None
    name = cause.words["group"]
    if chosen.before is None:
        letters = [DeadLetter(stored.id, name, stored.fields) for stored in cause.newest]
        has_more = cause.count > len(letters)
    else:
        letters, has_more = await read_older(state.server, scope, cause.id, EntryId.from_text(chosen.before))
    sample = await find_sample(state.server, scope.shards, [name], cause.id)
    group = state.sampler.latest.groups.get(name)
    return {
        **cause.summary(),
        "newest": describe_letter(DeadLetter(cause.newest[0].id, name, cause.newest[0].fields)),
        "alive": group.alive if group else None,
        "sample": sample and sample.summary(),
        "letters": [describe_letter(letter) for letter in letters],
        "position": chosen.position,
        "older": str(letters[-1].id) if has_more and letters else None,
    }


async def read_news(state: ConsoleState, chosen: DeadPage, _identity: Identity) -> Json:
    """Return the keys of the newest dead letters, and how the sample goes, for a page that is open."""
    scope, _ = await _find_scope(state, chosen)
    keys = await scope.streams.newest_keys(state.server)
    if chosen.cause is None:
        return {"keys": keys}
    sample = await find_sample(state.server, scope.shards, scope.groups, chosen.cause)
    return {"keys": keys, "sample": sample and sample.summary()}


async def view(request: web.Request) -> web.Response:
    """Show the page."""
    return await _render(request, await parameters(request, DeadPage))


async def _render(
    request: web.Request, chosen: DeadPage, *, opened: str = "", fault: str = "", status: int = 200
) -> web.Response:
    data = await read(state_of(request), chosen, identity_of(request))
    return render_page(
        request,
        "dead_letters.html",
        {
            "data": data,
            "keys": newest_keys(data),
            **{name: data[name] for name in ("cause", "group", "groups", "since")},
            "sample": data["cause"] and data["cause"]["sample"],
            "chosen": chosen,
            "opened": opened,
            "fault": fault,
            "rate": DEFAULT_RATE,
            "link": link,
        },
        title="Dead letters",
        command=_command("list", data["cause"], chosen.group),
        twin=f"{API}{PATH}",
        live=(LIVE_CAUSE if request.query.get("cause") else LIVE).name,
        status=status,
    )


def _command(act: str, cause: Json | None, group: str | None) -> str:
    options = (
        {"group": cause["group"], "reason": cause["reason"], "error": cause["error"]} if cause else {"group": group}
    )
    return f"ackstream dead-letters {act}" + "".join(
        f" --{name} {quote(text)}" for name, text in options.items() if text
    )


async def twin(request: web.Request) -> web.Response:
    """Answer the causes, and the dead letters of one cause."""
    return json_reply(await read(state_of(request), await parameters(request, DeadPage), identity_of(request)))


async def _read_letter(state: ConsoleState, chosen: LetterPage, reveal: bool) -> Json | None:
    entry_id = EntryId.from_text(chosen.id)
    letters = await find_dead(state.server, state.shards, [chosen.group], entry_id)
    return _describe(letters[0], reveal=reveal) if letters else None


def _describe(letter: DeadLetter, *, reveal: bool) -> Json:
    """Return all of a dead letter; error message, payload and other fields only with ``reveal``."""
    details = letter.details(reveal=reveal)
    return {
        **describe_letter(letter),
        "errors": details["errors"],
        "error_message": details["message"] if reveal else None,
        "payload": details["payload"] if reveal else None,
        "fields": details["fields"] if reveal else {},
        "is_revealed": reveal,
    }


def _render_letter(request: web.Request, letter: Json) -> web.Response:
    show = f"ackstream dead-letters show {letter['id']} --group {quote(letter['group'])}"
    return render_page(
        request,
        "dead_letter.html",
        {"letter": letter, "rate": DEFAULT_RATE, "link": link},
        title="Dead letter",
        command=show + (" --reveal" if letter["is_revealed"] else ""),
        twin=f"{API}{PATH}/letter"
        if request.query_string
        else link(f"{API}{PATH}/letter", group=letter["group"], id=letter["id"]),
    )


async def _show(request: web.Request, body: DeadBody, opened: str, fault: str) -> web.Response:
    chosen = DeadPage(cause=body.cause, since=body.since)
    return await _render(request, chosen, opened=opened, fault=fault, status=CONFLICT)


ROUTES = [
    Route("GET", PATH, view, parameters=DeadPage, summary="Dead letters by cause"),
    Route("GET", f"{API}{PATH}", twin, Role.VIEWER, DeadPage, DeadLettersReply, "Dead letters by cause"),
    *EntryView(
        "dead-letters",
        PATH,
        "letter",
        DeadLetterPageReply,
        LetterPage,
        LetterReveal,
        _read_letter,
        _render_letter,
        "One dead letter",
    ).routes(),
    *BulkAction(
        "dead-letters.replay", PATH, ReplayBody, start_replay, _show, "Replay dead letters", reply=DeadReplayReply
    ).routes(),
    *BulkAction("dead-letters.discard", PATH, DeadBody, discard, _show, "Discard dead letters for good").routes(),
]
LIVE = LivePage("dead-letters", "dead_letters.html", ("news",), read_news, DeadPage, NEWS_SECONDS)
LIVE_CAUSE = LivePage("dead-letters-cause", "dead_letters.html", ("news", "sample"), read_news, DeadPage, NEWS_SECONDS)
