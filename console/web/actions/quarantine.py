"""Accepts and discards quarantined payloads."""

import asyncio
from collections.abc import Sequence

from console.queries.causes.cause import Words
from console.queries.causes.counting import list_selected
from console.queries.causes.quarantine import QuarantineScope, accept_selected, discard_selected
from console.queries.quarantine import RefusedPayload, find_refused
from console.web.access.roles import Identity
from console.web.actions.bulk import ActionResult, BulkBody
from console.web.filters import count_noun
from console.web.render import Note
from console.web.state import ConsoleState
from ingest.auth.verifier import Verifier
from runtime.errors import CommandError
from stream.entry import EntryId
from stream.layout import read_layout


async def read_verifier(state: ConsoleState) -> Verifier | None:
    """Return the verifier of the current secrets, also of a file that has changed; None without secrets."""
    settings = state.settings
    if not settings.has_fixed_secrets:
        changed = await asyncio.to_thread(settings.with_new_secrets)
        settings = changed if changed.signature_secrets else settings
    return settings.verifier if settings.signature_secrets else None


async def accept(state: ConsoleState, _identity: Identity, body: BulkBody) -> ActionResult:
    """Append the payloads whose signature is right now; all others stay."""
    verifier = await read_verifier(state)
    if verifier is None:
        raise CommandError("no secret is configured, so no signature can be checked: set ACKSTREAM_SIGNATURE_SECRETS")
    payloads, words = await _select(state, body, verifier, only_right=True)
    number = await _append(state, payloads, verifier, unverified=False)
    return _accepted(number, body.scope(words), "verified")


async def accept_unverified(state: ConsoleState, _identity: Identity, body: BulkBody) -> ActionResult:
    """Append one payload whose signature nothing proves, marked as not verified."""
    payloads, words = await _select(state, body, None, only_right=False)
    if len(body.ids) != 1:
        raise CommandError("payloads that no secret verifies are accepted one by one: name one id")
    number = await _append(state, payloads, await read_verifier(state), unverified=True)
    if not number:
        raise CommandError("this payload was too large to be kept, so that it cannot be accepted")
    return _accepted(number, body.scope(words), "not verified")


async def discard(state: ConsoleState, _identity: Identity, body: BulkBody) -> ActionResult:
    """Drop payloads for good."""
    payloads, words = await _select(state, body, await read_verifier(state), only_right=False)
    number = await discard_selected(state.server, state.shards, payloads)
    return ActionResult(
        number, body.scope(words), f"{number} discarded", Note(f"Discarded: {count_noun(number, 'refused payload')}.")
    )


async def _append(
    state: ConsoleState, payloads: Sequence[RefusedPayload], verifier: Verifier | None, *, unverified: bool
) -> int:
    layout = await read_layout(state.server, state.settings)
    return await accept_selected(state.server, state.shards, payloads, verifier, layout, unverified=unverified)


async def _select(
    state: ConsoleState, body: BulkBody, verifier: Verifier | None, *, only_right: bool
) -> tuple[list[RefusedPayload], Words | None]:
    """Return the payloads of the action, oldest first, and the words of their cause.

    Raises NumberChanged and ShardsAway.
    """
    shards = await state.require_all()
    words: Words | None = None
    selected: list[RefusedPayload] = []
    if body.ids:
        for entry_id in map(EntryId.from_text, body.ids):
            for shard in shards:
                payload = await find_refused(state.server, shard, entry_id) if shard.number == entry_id.shard else None
                if payload is not None and (not only_right or payload.check(verifier)[1]):
                    selected.append(payload)
    else:
        scope = QuarantineScope(shards, verifier, body.last)
        entries = list_selected(state.server, scope.streams, scope.describe, cause=body.cause)
        async for stored, described, is_right in entries:
            words = described if body.cause else None
            if is_right or not only_right:
                selected.append(RefusedPayload(stored.id, stored.fields))
            if len(selected) == body.sample:
                break
    body.require(len(selected))
    return selected[::-1], words


def _accepted(number: int, scope: str, how: str) -> ActionResult:
    title = f"Accepted: {count_noun(number, 'payload')}. Every group gets {'it' if number == 1 else 'them'}."
    return ActionResult(number, scope, f"{number} accepted, {how}", Note(title))
