"""Replays and discards recorded invalid payloads."""

from console.queries.causes.cause import Words
from console.queries.causes.counting import list_selected
from console.queries.causes.invalid import InvalidScope, discard_selected, replay_selected
from console.queries.invalid import find_invalid
from console.web.access.roles import Identity
from console.web.actions.bulk import ActionResult, BulkBody
from console.web.filters import count_noun
from console.web.render import Note
from console.web.state import ConsoleState
from stream.entry import EntryId


async def _select(state: ConsoleState, body: BulkBody) -> tuple[list[EntryId], Words | None]:
    """Return the ids of the action's payloads, and the words of their cause. Raises NumberChanged and ShardsAway."""
    shards = await state.require_all()
    words: Words | None = None
    selected: list[EntryId] = []
    if body.ids:
        ids = [EntryId.from_text(text) for text in body.ids]
        for shard in shards:
            chosen = [entry_id for entry_id in ids if entry_id.shard == shard.number]
            selected += [payload.id for payload in await find_invalid(state.server, shard, chosen)]
    else:
        scope = InvalidScope(shards, body.last)
        entries = list_selected(state.server, scope.streams, scope.describe, cause=body.cause, most=body.sample)
        async for stored, described, _ in entries:
            selected.append(stored.id)
            words = described if body.cause else None
    body.require(len(selected))
    return selected, words


async def replay(state: ConsoleState, _identity: Identity, body: BulkBody) -> ActionResult:
    """Parse payloads again, and append those that are a status now for all groups."""
    ids, words = await _select(state, body)
    replayed, still_invalid = await replay_selected(state.server, state.shards, ids)
    title = f"{replayed:,} of {len(ids):,} are a status now. Every group gets them."
    rest = f"{still_invalid:,} are still invalid and stay here." if still_invalid else ""
    note = Note(title, rest, "ok") if replayed else Note("None of them is a status. Nothing was changed.", "", "warn")
    reply = {"replayed": replayed, "still_invalid": still_invalid}
    return ActionResult(len(ids), body.scope(words), f"{replayed} replayed, {still_invalid} still invalid", note, reply)


async def discard(state: ConsoleState, _identity: Identity, body: BulkBody) -> ActionResult:
    """Drop payloads from the record for good."""
    ids, words = await _select(state, body)
    number = await discard_selected(state.server, state.shards, ids)
    return ActionResult(
        number, body.scope(words), f"{number} discarded", Note(f"Discarded: {count_noun(number, 'invalid payload')}.")
    )
