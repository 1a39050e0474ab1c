"""Quarantine: payloads that ingest refused for a wrong signature, and how many the current secrets would accept."""

from aiohttp import web

from console.queries.causes.counting import count_causes, read_page
from console.queries.causes.quarantine import COUNTED_AT_MOST, QuarantineScope
from console.queries.quarantine import RefusedPayload, find_refused
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
from console.web.actions.quarantine import accept, accept_unverified, discard, read_verifier
from console.web.actions.replies import QuarantineReply, RefusedPayloadReply
from console.web.live import LivePage
from console.web.render import json_reply, parameters, render_page
from console.web.route import API, Json, Route
from console.web.state import ConsoleState, identity_of, state_of
from ingest.auth.proof import NEXT_STEPS
from ingest.auth.verifier import Verifier
from stream.entry import EntryId
from worker.events.timestamps import iso_time

PATH = "/quarantine"
STEPS = {str(reason): step.partition(", then run")[0] for reason, step in NEXT_STEPS.items()}
"""The next step before a payload with this reason can be accepted."""


async def read(state: ConsoleState, chosen: CausePage, _identity: Identity) -> Json:
    """Return the causes, and the payloads of one cause. ``good`` are those whose signature is right now."""
    verifier = await read_verifier(state)
    scope = QuarantineScope(state.shards, verifier)
    counted = await count_causes(state.server, scope.streams, scope.describe)
    data = summarize(counted, COUNTED_AT_MOST) | {"has_secrets": verifier is not None}
    cause = counted.causes.find(chosen.cause)
    if cause is None:
        return {**data, "cause": None}
    entries, has_more = [("", stored) for stored in cause.newest], cause.count > len(cause.newest)
    if chosen.before is not None:
        older = scope.streams.before(EntryId.from_text(chosen.before))
        entries, has_more = await read_page(state.server, older, scope.describe, cause.id)
    rows = [_describe(RefusedPayload(stored.id, stored.fields), verifier) for _, stored in entries]
    page = {"payloads": rows, "position": chosen.position, "older": rows[-1]["id"] if has_more and rows else None}
    return {**data, "cause": {**cause.summary(), **page, "next_step": STEPS.get(cause.words["reason"])}}


def _describe(refused: RefusedPayload, verifier: Verifier | None, *, reveal: bool = False) -> Json:
    """Return a payload; its content and query only with ``reveal``. Its token is never shown."""
    account, is_right = refused.check(verifier)
    private = refused.show(reveal=True) if reveal else {"payload": None, "query": None}
    return {
        **refused.summary(),
        "payload": private["payload"],
        "query": private["query"],
        "content_type": refused.show(reveal=False)["content_type"],
        "account": account or None,
        "is_right": is_right,
        "kept_at": iso_time(refused.id.ms),
        "next_step": STEPS.get(refused.reason),
        "is_revealed": reveal,
    }


async def read_news(state: ConsoleState, _chosen: CausePage, _identity: Identity) -> Json:
    """Return the keys of the newest entries, for a page that is open."""
    scope = QuarantineScope(state.shards, None)
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
        "quarantine.html",
        {
            "data": data,
            "keys": newest_keys(data),
            "cause": data["cause"],
            "chosen": chosen,
            "opened": opened,
            "fault": fault,
            "link": link,
        },
        title="Quarantine",
        command="ackstream quarantine list",
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
        refused = await find_refused(state.server, shard, entry_id) if shard.number == entry_id.shard else None
        if refused is not None:
            return _describe(refused, await read_verifier(state), reveal=reveal)
    return None


def _render_payload(request: web.Request, payload: Json) -> web.Response:
    return render_page(
        request,
        "refused_payload.html",
        {"payload": payload},
        title="Refused payload",
        command=f"ackstream quarantine show {payload['id']}" + (" --reveal" if payload["is_revealed"] else ""),
        twin=f"{API}{PATH}/payload" if request.query_string else link(f"{API}{PATH}/payload", id=payload["id"]),
    )


async def _show(request: web.Request, body: BulkBody, opened: str, fault: str) -> web.Response:
    return await _render(request, CausePage(cause=body.cause), opened=opened, fault=fault, status=CONFLICT)


ROUTES = [
    Route("GET", PATH, view, parameters=CausePage, summary="Refused payloads by cause"),
    Route("GET", f"{API}{PATH}", twin, Role.VIEWER, CausePage, QuarantineReply, "Refused payloads by cause"),
    *EntryView(
        "quarantine",
        PATH,
        "payload",
        RefusedPayloadReply,
        EntryPage,
        RevealBody,
        _read_payload,
        _render_payload,
        "One refused payload",
    ).routes(),
    *BulkAction("quarantine.accept", PATH, BulkBody, accept, _show, "Accept payloads that verify now").routes(),
    *BulkAction(
        "quarantine.accept-unverified",
        PATH,
        BulkBody,
        accept_unverified,
        _show,
        "Accept one payload that no secret verifies",
        Role.ADMIN,
    ).routes(),
    *BulkAction("quarantine.discard", PATH, BulkBody, discard, _show, "Discard refused payloads for good").routes(),
]
LIVE = LivePage("quarantine", "quarantine.html", ("news",), read_news, CausePage, NEWS_SECONDS)
