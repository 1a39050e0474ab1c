"""Invalid payloads that no signature verifies: why they are invalid, and which are a status today."""

from aiohttp import web

from console.queries.causes.counting import count_causes, read_page
from console.queries.causes.invalid import COUNTED_AT_MOST, InvalidScope
from console.queries.invalid import RecordedPayload, count_invalid, find_invalid
from console.web.access.roles import Identity, Role
from console.web.actions.bulk import (
    CONFLICT,
    NEWS_SECONDS,
    BulkAction,
    BulkBody,
    CausePage,
    link,
    newest_keys,
    summarize,
)
from console.web.actions.entry import EntryPage, EntryView, RevealBody
from console.web.actions.invalid import discard, replay
from console.web.actions.replies import InvalidPayloadReply, InvalidReplayReply, InvalidReply
from console.web.live import LivePage
from console.web.render import json_reply, parameters, render_page
from console.web.route import API, Json, Route
from console.web.state import ConsoleState, identity_of, state_of
from stream.entry import EntryId
from worker.events.timestamps import iso_time

PATH = "/invalid"


async def read(state: ConsoleState, chosen: CausePage, _identity: Identity) -> Json:
    """Return the causes, and the payloads of one cause."""
    scope = InvalidScope(state.shards)
    counted = await count_causes(state.server, scope.streams, scope.describe)
    totals = [await count_invalid(state.server, shard) for shard in state.shards]
    data = summarize(counted, COUNTED_AT_MOST) | {
        name: sum(total[name] for total in totals) for name in ("recorded", "dropped", "discarded", "replayed")
    }
    cause = counted.causes.find(chosen.cause)
    if cause is None:
        return {**data, "cause": None}
    entries, has_more = [("", stored) for stored in cause.newest], cause.count > len(cause.newest)
    if chosen.before is not None:
        older = scope.streams.before(EntryId.from_text(chosen.before))
        entries, has_more = await read_page(state.server, older, scope.describe, cause.id)
    rows = [_describe(RecordedPayload(stored.id, stored.fields)) for _, stored in entries]
    page = {"payloads": rows, "position": chosen.position, "older": rows[-1]["id"] if has_more and rows else None}
    return {**data, "cause": {**cause.summary(), **page}}


def _describe(payload: RecordedPayload, *, reveal: bool = False) -> Json:
    """Return a payload; its content and query only with ``reveal``."""
    return {
        "payload": None,
        "query": None,
        **payload.show(reveal=reveal),
        "recorded_at": iso_time(payload.id.ms),
        "is_status": payload.entry() is not None,
        "is_revealed": reveal,
    }


async def read_news(state: ConsoleState, _chosen: CausePage, _identity: Identity) -> Json:
    """Return the keys of the newest entries, for a page that is open."""
    scope = InvalidScope(state.shards)
    return {"keys": await scope.streams.newest_keys(state.server)}


async def view(request: web.Request) -> web.Response:
    """Show the page."""
    return await _render(request, await parameters(request, CausePage))


async def _render(
    request: web.Request, chosen: CausePage, *, opened: str = "", fault: str = "", status: int = 200
) -> web.Response:
    data = await read(state_of(request), chosen, identity_of(request))
    return render_page(
        request,
        "invalid.html",
        {
            "data": data,
            "keys": newest_keys(data),
            "cause": data["cause"],
            "chosen": chosen,
            "opened": opened,
            "fault": fault,
            "link": link,
        },
        title="Invalid payloads",
        command="ackstream invalid list",
        twin=f"{API}{PATH}",
        live=LIVE.name,
        status=status,
    )


async def twin(request: web.Request) -> web.Response:
    """Answer the causes, and the payloads of one cause."""
    return json_reply(await read(state_of(request), await parameters(request, CausePage), identity_of(request)))


async def _read_payload(state: ConsoleState, chosen: EntryPage, reveal: bool) -> Json | None:
    entry_id = EntryId.from_text(chosen.id)
    for shard in state.shards:
        if shard.number == entry_id.shard:
            for payload in await find_invalid(state.server, shard, [entry_id]):
                return _describe(payload, reveal=reveal)
    return None


def _render_payload(request: web.Request, payload: Json) -> web.Response:
    return render_page(
        request,
        "invalid_payload.html",
        {"payload": payload},
        title="Invalid payload",
        command=f"ackstream invalid show {payload['id']}" + (" --reveal" if payload["is_revealed"] else ""),
        twin=f"{API}{PATH}/payload" if request.query_string else link(f"{API}{PATH}/payload", id=payload["id"]),
    )


async def _show(request: web.Request, body: BulkBody, opened: str, fault: str) -> web.Response:
    return await _render(request, CausePage(cause=body.cause), opened=opened, fault=fault, status=CONFLICT)


ROUTES = [
    Route("GET", PATH, view, parameters=CausePage, summary="Invalid payloads by cause"),
    Route("GET", f"{API}{PATH}", twin, Role.VIEWER, CausePage, InvalidReply, "Invalid payloads by cause"),
    *EntryView(
        "invalid",
        PATH,
        "payload",
        InvalidPayloadReply,
        EntryPage,
        RevealBody,
        _read_payload,
        _render_payload,
        "One invalid payload",
    ).routes(),
    *BulkAction(
        "invalid.replay", PATH, BulkBody, replay, _show, "Parse invalid payloads again", reply=InvalidReplayReply
    ).routes(),
    *BulkAction("invalid.discard", PATH, BulkBody, discard, _show, "Discard invalid payloads for good").routes(),
]
LIVE = LivePage("invalid", "invalid.html", ("news",), read_news, CausePage, NEWS_SECONDS)
