"""Quarantine: payloads that ingest refused for a wrong signature, and how many the current secrets would accept."""

from console.queries.causes.quarantine import QuarantineScope
from console.queries.quarantine import RefusedPayload, find_refused
from console.web.access.roles import Role
from console.web.actions.bulk import BulkAction, BulkBody, CausePage
from console.web.actions.payload_list import PayloadList, read_causes
from console.web.actions.quarantine import accept, accept_unverified, discard, read_verifier
from console.web.actions.replies import QuarantineReply, RefusedPayloadReply
from console.web.route import Json
from console.web.state import ConsoleState
from ingest.auth.proof import NEXT_STEPS
from ingest.auth.verifier import Verifier
from stream.entry import EntryId
from worker.events.timestamps import iso_time

STEPS = {str(reason): step.partition(", then run")[0] for reason, step in NEXT_STEPS.items()}
"""The next step before a payload with this reason can be accepted."""


async def read(state: ConsoleState, chosen: CausePage) -> Json:
    """Return the causes, and the payloads of one cause. ``good`` are those whose signature is right now."""
    verifier = await read_verifier(state)
    scope = QuarantineScope(await state.find_answering(), verifier)
    data = await read_causes(
        state,
        chosen,
        scope.streams,
        scope.describe,
        lambda stored: _describe(RefusedPayload(stored.id, stored.fields), verifier),
    )
    if data["cause"]:
        data["cause"]["next_step"] = STEPS.get(data["cause"]["reason"])
    return {**data, "has_secrets": verifier is not None}


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


async def _read_payload(state: ConsoleState, entry_id: EntryId, reveal: bool) -> Json | None:
    for shard in state.shards:
        refused = await find_refused(state.server, shard, entry_id) if shard.number == entry_id.shard else None
        if refused is not None:
            return _describe(refused, await read_verifier(state), reveal=reveal)
    return None


PAGES = PayloadList(
    name="quarantine",
    title="Quarantine",
    kind="Refused payload",
    payload_template="refused_payload.html",
    reply=QuarantineReply,
    payload_reply=RefusedPayloadReply,
    read=read,
    read_payload=_read_payload,
    find_streams=lambda shards: QuarantineScope(shards, None).streams,
)
ROUTES = [
    *PAGES.routes(),
    *BulkAction(
        "quarantine.accept", PAGES.path, BulkBody, accept, PAGES.show, "Accept payloads that verify now"
    ).routes(),
    *BulkAction(
        "quarantine.accept-unverified",
        PAGES.path,
        BulkBody,
        accept_unverified,
        PAGES.show,
        "Accept one payload that no secret verifies",
        Role.ADMIN,
    ).routes(),
    *BulkAction(
        "quarantine.discard", PAGES.path, BulkBody, discard, PAGES.show, "Discard refused payloads for good"
    ).routes(),
]
LIVE = PAGES.live
