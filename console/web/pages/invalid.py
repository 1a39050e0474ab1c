"""Invalid payloads that no signature verifies: why they are invalid, and which are a status today."""

from console.queries.causes.invalid import InvalidScope
from console.queries.invalid import RecordedPayload, count_invalid, find_invalid
from console.web.actions.bulk import BulkAction, BulkBody, CausePage
from console.web.actions.invalid import discard, replay
from console.web.actions.payload_list import PayloadList, read_causes
from console.web.actions.replies import InvalidPayloadReply, InvalidReplayReply, InvalidReply
from console.web.route import Json
from console.web.state import ConsoleState
from stream.entry import EntryId
from worker.events.timestamps import iso_time


async def read(state: ConsoleState, chosen: CausePage) -> Json:
    """Return the causes, and the payloads of one cause."""
    shards = await state.find_answering()
    scope = InvalidScope(shards)
    totals = [await count_invalid(state.server, shard) for shard in shards]
    return {
        **{name: sum(total[name] for total in totals) for name in ("recorded", "dropped", "discarded", "replayed")},
        **await read_causes(
            state,
            chosen,
            scope.streams,
            scope.describe,
            lambda stored: _describe(RecordedPayload(stored.id, stored.fields)),
        ),
    }


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


async def _read_payload(state: ConsoleState, entry_id: EntryId, reveal: bool) -> Json | None:
    for shard in state.shards:
        if shard.number == entry_id.shard:
            for payload in await find_invalid(state.server, shard, [entry_id]):
                return _describe(payload, reveal=reveal)
    return None


PAGES = PayloadList(
    name="invalid",
    title="Invalid payloads",
    kind="Invalid payload",
    payload_template="invalid_payload.html",
    reply=InvalidReply,
    payload_reply=InvalidPayloadReply,
    read=read,
    read_payload=_read_payload,
    find_streams=lambda shards: InvalidScope(shards).streams,
)
ROUTES = [
    *PAGES.routes(),
    *BulkAction(
        "invalid.replay",
        PAGES.path,
        BulkBody,
        replay,
        PAGES.show,
        "Parse invalid payloads again",
        reply=InvalidReplayReply,
    ).routes(),
    *BulkAction(
        "invalid.discard", PAGES.path, BulkBody, discard, PAGES.show, "Discard invalid payloads for good"
    ).routes(),
]
LIVE = PAGES.live
