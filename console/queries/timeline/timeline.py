"""Builds the timeline of a message: each of its webhooks, from its receipt over every group to its settlement.

The sources are the tables, and in Redis the live entries, the positions of the groups, their history, delayed retries,
dead letters and replays. The history keeps only the latest outcomes, and the position of a group proves that an entry
is settled, not that it was handled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from redis.asyncio import Redis

from console.queries.timeline.copies import CopyPlace, CopySearch, EntryCopies, find_outcomes, search_stream
from console.queries.timeline.entry_state import describe_group
from console.queries.timeline.positions import LiveEntry, find_oldest_unsettled, read_entries, read_live_states
from console.queries.timeline.replays import ReplayedEntry
from console.queries.timeline.steps import list_steps
from console.queries.timeline.summary import has_trouble, sum_up_webhook
from stream.entry import Entry, EntryId, InvalidEntry
from stream.keys import Shard
from worker.events.event import StatusEvent
from worker.events.stored import parse_stored
from worker.events.timestamps import from_ms
from worker.group.consumer_group import read_group_names
from worker.group.group_ref import GroupRef
from worker.replay.job import Progress
from worker.replay.repository import Replays
from worker.settle.history import EntryOutcome

SPOOLED_SECONDS = 1.0
"""Ingest waits at most this long for Redis by default: a later entry came through the spool."""

Outcomes = list[tuple[int, EntryOutcome]]


@dataclass(slots=True)
class _Group:
    """The facts about the message in one group."""

    name: str
    live: dict[EntryId, LiveEntry] = field(default_factory=dict)
    outcomes: Outcomes = field(default_factory=list)
    copies: EntryCopies = field(default_factory=EntryCopies)
    replays: Sequence[Progress] = ()

    def describe(self, webhook: "_Webhook", *, reveal: bool) -> dict[str, Any]:
        """Return the state of a webhook in this group."""
        origin = str(webhook.id)
        copies = [copy for copy in self.copies.found if copy.origin == origin]
        outcomes = [(ms, outcome) for ms, outcome in self.outcomes if outcome.origin == origin]
        dead = [ms for ms, outcome in outcomes if outcome.outcome == "dead-lettered"]
        replays = ReplayedEntry(
            webhook.id,
            webhook.event,
            dead_ids=[copy.id for copy in copies if copy.place is CopyPlace.DEAD and copy.id is not None],
            dead_ms=dead,
            reason=next((outcome.error for _, outcome in outcomes if outcome.error), ""),
        ).find_replays(self.replays)
        return describe_group(self.name, self.live[webhook.id], copies, outcomes, replays, reveal=reveal)


@dataclass(frozen=True, slots=True)
class _Webhook:
    """One webhook of the message. ``fields`` are those of its live entry, None if the stream does not have it."""

    id: EntryId
    event: StatusEvent
    fields: Mapping[bytes, bytes] | None
    is_stored: bool
    is_repeat: bool

    def describe(self, groups: Sequence[_Group], *, reveal: bool) -> dict[str, Any]:
        """Return the webhook, its state in each group and its steps."""
        event = self.event
        entry = _parse_entry(self.fields) if self.fields else None
        delay = self.id.ms / 1000 - event.received_at.timestamp()
        proof = "signature" if event.account_verified else None
        webhook = {
            "entry": str(self.id),
            "event_id": event.event_id,
            "status": event.status,
            "provider_status": event.provider_status,
            "occurred_at": event.occurred_at.isoformat() if event.occurred_at else None,
            "received_at": event.received_at.isoformat(),
            "verified": (entry.verified if entry else proof),
            "signature": entry.signature if entry else None,
            "account": event.account,
            "content_type": entry.content_type if entry else None,
            "reached_redis_at": from_ms(self.id.ms).isoformat(),
            "spooled_seconds": round(delay, 3) if delay >= SPOOLED_SECONDS else None,
            "bytes": len(event.raw),
            "is_stored": self.is_stored,
            "is_repeat": self.is_repeat,
            "is_on_stream": self.fields is not None,
            "groups": [group.describe(self, reveal=reveal) for group in groups],
        }
        summary = {"summary": sum_up_webhook(webhook), "has_trouble": has_trouble(webhook)}
        return {**webhook, **summary, "steps": list_steps(webhook)}


@dataclass(frozen=True, slots=True)
class Timeline:
    """The webhooks of a message, the first one first, and the places with too many entries to search all."""

    webhooks: list[dict[str, Any]] = field(default_factory=list)
    unsearched: list[dict[str, Any]] = field(default_factory=list)
    events: dict[str, StatusEvent] = field(default_factory=dict)
    """The event of each webhook, by entry."""

    def as_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return {"webhooks": self.webhooks, "unsearched": self.unsearched}

    def __add__(self, other: "Timeline") -> "Timeline":
        """Add the webhooks of another shard."""
        webhooks = sorted([*self.webhooks, *other.webhooks], key=itemgetter("received_at", "entry"))
        seen: set[str] = set()
        for webhook in webhooks:
            webhook["is_repeat"] = webhook["event_id"] in seen
            seen.add(webhook["event_id"])
        return Timeline(webhooks, [*self.unsearched, *other.unsearched], self.events | other.events)


def list_stored(events: Sequence[StatusEvent]) -> Timeline:
    """Return the webhooks as the tables have them, without groups: for the time while Redis, or a node, is away."""
    stored = {EntryId.from_text(event.entry): event for event in events}
    webhooks = [webhook.describe((), reveal=False) for webhook in _list_webhooks(stored, {}, stored)]
    unknown = {"is_on_stream": None, "summary": "stored"}
    return Timeline([{**webhook, **unknown} for webhook in webhooks], [], _by_entry(stored))


async def find_timelines(
    server: Redis,
    shards: Sequence[Shard],
    message_uuid: str,
    events: Sequence[StatusEvent],
    entry: EntryId | None = None,
    *,
    reveal: bool,
) -> Timeline:
    """Return the webhooks of a message in these shards, and those of other shards as the tables have them.

    Arguments and errors are those of ``find_timeline``.
    """
    numbers = {shard.number for shard in shards}
    timeline = list_stored([event for event in events if EntryId.from_text(event.entry).shard not in numbers])
    for shard in shards:
        timeline += await find_timeline(server, shard, message_uuid, events, entry, reveal=reveal)
    return timeline


async def find_timeline(
    server: Redis,
    shard: Shard,
    message_uuid: str,
    events: Sequence[StatusEvent],
    entry: EntryId | None = None,
    *,
    reveal: bool,
) -> Timeline:
    """Return the webhooks of a message in one shard. Raises RedisError.

    ``events`` are those of the tables. ``entry`` is one more entry of the message, which the tables may not have yet.
    Entries that some group has not settled are searched for others. Without ``reveal`` error messages are omitted and
    numbers in errors masked.
    """
    names = await read_group_names(server, shard)
    stored = {EntryId.from_text(event.entry): event for event in events}
    stored = {entry_id: event for entry_id, event in stored.items() if entry_id.shard == shard.number}
    more = [entry] if entry and entry.shard == shard.number else []
    entries = await read_entries(server, shard, [*stored, *more])
    first = await find_oldest_unsettled(server, shard, names)
    unsettled, is_cut = await search_stream(server, shard, shard.stream, [message_uuid], first.redis)
    entries |= unsettled
    found = {**stored, **_parse_events(message_uuid, entries, stored)}
    groups = [_Group(name) for name in names]
    for group in groups:
        await _search(GroupRef(server, shard, group.name), group, message_uuid, found)
        for copy in group.copies.found:
            if (event := copy.parse_event()) and event.message_uuid == message_uuid:
                found.setdefault(EntryId.from_text(copy.origin), event)
    entries |= await read_entries(server, shard, sorted(found.keys() - entries.keys()))
    live = await read_live_states(server, shard, names, {entry_id: entry_id in entries for entry_id in found})
    for group in groups:
        group.live = {entry_id: state for (name, entry_id), state in live.items() if name == group.name}
    webhooks = _list_webhooks(found, entries, stored)
    unsearched = [{"group": group.name, "place": str(place)} for group in groups for place in group.copies.unsearched]
    return Timeline(
        [webhook.describe(groups, reveal=reveal) for webhook in webhooks],
        [*([{"group": None, "place": "stream"}] if is_cut else []), *unsearched],
        _by_entry(found),
    )


def _by_entry(events: Mapping[EntryId, StatusEvent]) -> dict[str, StatusEvent]:
    return {str(entry_id): event for entry_id, event in events.items()}


def _list_webhooks(
    found: Mapping[EntryId, StatusEvent],
    entries: Mapping[EntryId, Mapping[bytes, bytes]],
    stored: Mapping[EntryId, StatusEvent],
) -> list[_Webhook]:
    webhooks: list[_Webhook] = []
    seen: set[str] = set()
    for entry_id, event in sorted(found.items(), key=lambda item: (item[1].received_at, item[0])):
        webhooks.append(_Webhook(entry_id, event, entries.get(entry_id), entry_id in stored, event.event_id in seen))
        seen.add(event.event_id)
    return webhooks


async def _search(ref: GroupRef, group: _Group, message_uuid: str, found: Mapping[EntryId, StatusEvent]) -> None:
    origins = [str(entry_id) for entry_id in found]
    group.outcomes = await find_outcomes(ref, origins)
    dead_ms = [ms for ms, outcome in group.outcomes if outcome.outcome == "dead-lettered"]
    since_ms = min((entry_id.ms for entry_id in found), default=0)
    group.copies = await CopySearch(ref, message_uuid, origins).run(since_ms, dead_ms)
    group.replays = await Replays(ref).all()


def _parse_events(
    message_uuid: str, entries: Mapping[EntryId, Mapping[bytes, bytes]], stored: Mapping[EntryId, Any]
) -> dict[EntryId, StatusEvent]:
    """Return the events of those entries that the tables do not have."""
    events = {}
    for entry_id in entries.keys() - stored.keys():
        event = parse_stored(entries[entry_id], str(entry_id))
        if event and event.message_uuid == message_uuid:
            events[entry_id] = event
    return events


def _parse_entry(fields: Mapping[bytes, bytes]) -> Entry | None:
    try:
        return Entry.from_fields(fields)
    except InvalidEntry:
        return None
