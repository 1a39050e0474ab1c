"""Counts dead letters by cause, and reads, replays and discards those of a selection."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from redis.asyncio import Redis

from console.queries.causes.cause import Cause, Words
from console.queries.causes.counting import Counted, Streams, count_causes, list_selected, read_page
from console.queries.dead_letters import DeadLetter, discard_dead, find_dead
from console.queries.replays import ReplayRequest, start
from stream.entry import EntryId
from stream.keys import Shard
from worker.events.event import mask
from worker.events.stored import parse_stored
from worker.events.timestamps import iso_time
from worker.replay.entry_filter import ALL, EntryFilter, error_of, reason_of
from worker.replay.entry_reader import Stored
from worker.replay.job import Place, Replay

COUNTED_AT_MOST = 10_000


@dataclass(frozen=True)
class DeadScope:
    """The dead letters of some groups that a selection matches, up to the id ``through`` or the newest."""

    shards: Sequence[Shard]
    groups: Sequence[str]
    selection: EntryFilter = ALL
    through: EntryId | None = None

    @property
    def streams(self) -> Streams:
        """The streams of dead letters."""
        keys = [(shard.number, shard.dead(group), group) for shard in self.shards for group in self.groups]
        return Streams(keys, COUNTED_AT_MOST, self.through)

    @cached_property
    def _words(self) -> dict[tuple[str, bytes], Words]:
        return {}

    def describe(self, group: str, stored: Stored) -> tuple[Words, bool] | None:
        """Return the group, the reason and the error of a selected dead letter."""
        if not self.selection.matches(stored.id, stored.fields, dead=True):
            return None
        raw = group, stored.fields.get(b"error", b"")
        if raw not in self._words:
            words = {"group": group, "reason": reason_of(stored.fields), "error": error_of(stored.fields)}
            self._words[raw] = words
        return self._words[raw], False

    def shard(self, number: int) -> Shard:
        """Return the shard with this number."""
        return next(shard for shard in self.shards if shard.number == number)


async def count_dead(server: Redis, scope: DeadScope) -> Counted:
    """Count the newest dead letters of the scope by cause. Raises RedisError."""
    return await count_causes(server, scope.streams, scope.describe)


async def read_older(server: Redis, scope: DeadScope, cause: str, before: EntryId) -> tuple[list[DeadLetter], bool]:
    """Return the next dead letters of the cause before this id, newest first, and whether there may be more.

    Raises RedisError.
    """
    page, has_more = await read_page(server, scope.streams.before(before), scope.describe, cause)
    return [DeadLetter(stored.id, group, stored.fields) for group, stored in page], has_more


async def select_dead(
    server: Redis, scope: DeadScope, cause: str | None, sample: int | None = None
) -> tuple[DeadScope, Cause]:
    """Return the dead letters of the scope and the cause; with ``sample`` only this number of the newest.

    The selection of the returned scope names the cause and the sample. Raises RedisError.
    """
    selected, selection = Cause({}), scope.selection
    if scope.selection.ids:
        for stored in await _find(server, scope):
            selected.add(stored, stored.id.ms)
        return scope, selected
    async for stored, words, _ in list_selected(server, scope.streams, scope.describe, cause=cause, most=sample):
        if cause and not selected.count:
            selection = replace(selection, reasons=(words["reason"],), errors=(words["error"],))
        selected.add(stored, stored.id.ms)
    if sample is not None:
        selection = replace(selection, ids=tuple(str(stored.id) for stored in selected.newest))
    return replace(scope, selection=selection), selected


async def _find(server: Redis, scope: DeadScope) -> list[Stored]:
    letters: list[DeadLetter] = []
    for entry_id in map(EntryId.from_text, scope.selection.ids):
        letters += await find_dead(server, scope.shards, scope.groups, entry_id)
    return [Stored(letter.id, letter.fields) for letter in letters]


async def replay_dead(
    server: Redis, scope: DeadScope, selected: Cause, rate: float, *, person: str, why: str
) -> Replay:
    """Start a replay of the selected dead letters of one group. Raises RedisError, CommandError."""
    [group] = scope.groups
    requests = {
        number: ReplayRequest(scope.shard(number), group, Place.DEAD, scope.selection, rate, None)
        for number in selected.plans
    }
    planned = [(requests[number], plan) for number, plan in selected.plans.items()]
    return await start(server, planned, person=person, why=why)


async def discard_selected(server: Redis, scope: DeadScope, selected: Cause) -> int:
    """Drop the selected dead letters of one group; return their number. Raises RedisError."""
    [group] = scope.groups
    spans = selected.spans.items()
    return sum(
        [await discard_dead(server, scope.shard(number), group, scope.selection, span) for number, span in spans]
    )


def describe_letter(letter: DeadLetter) -> dict[str, Any]:
    """Return the row of a dead letter: its message with a masked number, and when the group gave it up."""
    event = parse_stored(letter.fields, "")
    return {
        **letter.summary(),
        "entry": letter.fields.get(b"origin", b"").decode(errors="replace") or None,
        "given_up_at": iso_time(letter.id.ms),
        "message": event and event.message_uuid,
        "client_ref": event and event.client_ref,
        "status": event and event.status,
        "channel": event and event.channel,
        "to": event and mask(event.to),
    }
