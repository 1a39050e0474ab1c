"""Plan, start, list and control replays."""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.format import format_shards
from runtime.errors import CommandError, PartlyDone
from stream.entry import EntryId, read_received_ms
from stream.keys import Shard
from stream.redis.errors import quote_reason
from worker.events.timestamps import iso_time
from worker.group.consumer_group import read_group_names
from worker.group.group_ref import GroupRef
from worker.replay.entry_filter import EntryFilter
from worker.replay.entry_reader import Pages, Span, Stored, read_archive_and_stream, read_stream
from worker.replay.job import ENDED, Place, Progress, Replay, State
from worker.replay.repository import Replays
from worker.retention.archive_reader import ArchiveDamaged


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """The entries of one shard to replay, and the target group. A plan needs no group; a start does."""

    shard: Shard
    group: str | None
    place: Place
    selection: EntryFilter
    rate: float
    archive: Path | None


@dataclass(slots=True)
class ReplayPlan:
    """The entries that a replay would copy."""

    entries: int = 0
    bytes: int = 0
    received_ms: tuple[int, int] | None = None
    """The earliest and the latest time of receipt; None if no entry has one."""
    span: tuple[EntryId, EntryId] | None = None
    """The ids of the first and the last entry."""
    read: int = 0
    """The entries that were read so far, also those that do not match."""

    def add(self, stored: Stored) -> None:
        """Count an entry."""
        self.entries += 1
        self.bytes += stored.size
        moment = read_received_ms(stored.fields)
        if moment is not None:
            least, greatest = self.received_ms or (moment, moment)
            self.received_ms = min(least, moment), max(greatest, moment)
        first, last = self.span or (stored.id, stored.id)
        self.span = min(first, stored.id), max(last, stored.id)

    @classmethod
    def sum_up(cls, plans: Sequence[Self]) -> Self:
        """Return the plan over all shards from that of each."""
        received = [plan.received_ms for plan in plans if plan.received_ms]
        spans = [plan.span for plan in plans if plan.span]
        return cls(
            entries=sum(plan.entries for plan in plans),
            bytes=sum(plan.bytes for plan in plans),
            received_ms=(min(span[0] for span in received), max(span[1] for span in received)) if received else None,
            span=(min((span[0] for span in spans), key=_by_time), max((span[1] for span in spans), key=_by_time))
            if spans
            else None,
            read=sum(plan.read for plan in plans),
        )

    def summary(self, rate: float) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        first, last = self.received_ms or (None, None)
        first_entry, last_entry = self.span or (None, None)
        return {
            "entries": self.entries,
            "bytes": self.bytes,
            "first": iso_time(first),
            "last": iso_time(last),
            "first_entry": first_entry and str(first_entry),
            "last_entry": last_entry and str(last_entry),
            "seconds": round(self.entries / rate, 3),
        }


def _by_time(entry_id: EntryId) -> tuple[int, int, int]:
    return entry_id.ms, entry_id.seq, entry_id.shard


async def plan(server: Redis, request: ReplayRequest) -> ReplayPlan:
    """Plan a replay of stored entries. Raises RedisError, and CommandError for an unknown group or a bad archive."""
    result = ReplayPlan()
    await check_group(server, request.shard, request.group)
    async for _ in count_entries(server, request, result):
        pass
    return result


async def plan_all(
    server: Redis, shards: Sequence[Shard], request: ReplayRequest
) -> list[tuple[ReplayRequest, ReplayPlan]]:
    """Plan the same replay on each shard. Raises as ``plan``."""
    requests = [replace(request, shard=shard) for shard in shards]
    return [(part, await plan(server, part)) for part in requests]


async def count_entries(
    server: Redis, request: ReplayRequest, result: ReplayPlan, upto: EntryId | None = None
) -> AsyncIterator[None]:
    """Add the entries to the plan; yields after each page. ``upto`` is the last id to count.

    Raises RedisError, and CommandError for a bad archive.
    """
    dead = request.place is Place.DEAD
    try:
        async for page in await _pages(server, request, upto):
            result.read += len(page)
            for stored in page:
                if request.selection.matches(stored.id, stored.fields, dead=dead):
                    result.add(stored)
            yield
    except ArchiveDamaged as exc:
        raise CommandError(
            f"the archive cannot be used: {exc}. Restore what is missing, or leave out its time"
        ) from None


async def _pages(server: Redis, request: ReplayRequest, upto: EntryId | None) -> Pages:
    """Read up to the newest entry; the plan ignores entries that arrive later."""
    shard = request.shard
    key = shard.dead(request.group or "") if request.place is Place.DEAD else shard.stream
    named = Span.from_ids(shard.number, request.selection.ids)
    first: Any = await server.xrange(key, count=1)
    last: Any = await server.xrevrange(key, count=1)
    newest = EntryId.from_redis(shard.number, last[0][0]) if last else named.begin
    newest = newest if upto is None else min(newest, upto)
    boundary = EntryId.from_redis(shard.number, first[0][0]) if first else None
    if request.place is Place.ARCHIVE and request.archive is not None:
        span = Span(named.begin, min(named.end, newest) if last else named.end)
        return read_archive_and_stream(server, key, request.archive, span, boundary, request.selection.received_span)
    return read_stream(server, key, Span(named.begin, min(named.end, newest)), request.selection.ids)


async def start(
    server: Redis, planned: Sequence[tuple[ReplayRequest, ReplayPlan]], *, person: str = "", why: str = ""
) -> Replay:
    """Start a planned replay, with a part for each shard; workers copy it. The list shows the person and the reason.

    All requests have the same group and rate; each part gets a share of the rate. Raises CommandError without the
    group, RedisError, and PartlyDone if parts have started.
    """
    planned = [(request, replay_plan) for request, replay_plan in planned if replay_plan.entries]
    seconds, microseconds = await server.time()
    replay_id, started_ms = _make_id(), seconds * 1000 + microseconds // 1000
    total = sum(replay_plan.entries for _, replay_plan in planned)
    started: list[int] = []
    try:
        for request, replay_plan in planned:
            assert request.group is not None  # noqa: S101 - the command requires a group
            assert replay_plan.span is not None  # noqa: S101 - the command does not start an empty part
            part = Replay(
                id=replay_id,
                group=request.group,
                place=request.place,
                selection=request.selection,
                rate=request.rate * replay_plan.entries / total,
                begin=(await _find_start(server, request, replay_plan.span[0])).redis,
                end=replay_plan.span[1].redis,
                total=replay_plan.entries,
                started_ms=started_ms,
            )
            await _start_part(GroupRef(server, request.shard, request.group), part, person, why)
            started.append(request.shard.number)
    except (RedisError, CommandError) as exc:
        if not started:
            raise
        reason = quote_reason(exc) if isinstance(exc, RedisError) else str(exc)
        raise PartlyDone(
            f"replay {replay_id} has started on {format_shards(started)} only ({reason}): "
            f"when Redis answers, cancel it with `ackstream replay cancel {replay_id}`, and start it again"
        ) from exc
    return replace(part, total=total, rate=planned[0][0].rate)


async def _start_part(group: GroupRef, part: Replay, person: str, why: str) -> None:
    if not await Replays(group).start(part, person, why):
        raise CommandError(f"no group {group.name!r} is registered: start a worker of it first")


def _make_id() -> str:
    """Return an id with a letter, because digits alone may be a phone number and are masked in the audit log."""
    replay_id = secrets.token_hex(4)
    return _make_id() if replay_id.isdigit() else replay_id


async def _find_start(server: Redis, request: ReplayRequest, first: EntryId) -> EntryId:
    """Return the id before the first entry; with the archive at most the oldest id of the stream.

    Workers may have archived more of the stream since the plan was made.
    """
    if request.place is Place.ARCHIVE:
        oldest: Any = await server.xrange(request.shard.stream, count=1)
        if oldest:
            first = min(first, EntryId.from_redis(request.shard.number, oldest[0][0]))
    return first.before()


async def check_group(server: Redis, shard: Shard, group: str | None) -> None:
    """Raise CommandError if a group is named and not registered."""
    names = await read_group_names(server, shard)
    if group is not None and group not in names:
        raise CommandError(f"no group {group!r}; the groups are: {', '.join(names) or 'none yet, start a worker'}")


async def list_replays(server: Redis, shards: Sequence[Shard], group: str | None) -> list[Progress]:
    """Return the replays of the group, or of all groups; the newest of each first. Raises CommandError, RedisError."""
    await check_group(server, shards[0], group)
    names = await read_group_names(server, shards[0]) if group is None else [group]
    replays: list[Progress] = []
    for name in names:
        by_id: dict[str, list[Progress]] = {}
        for shard in shards:
            for part in await Replays(GroupRef(server, shard, name)).all():
                by_id.setdefault(part.replay.id, []).append(part)
        merged = map(Progress.merge, by_id.values())
        replays += sorted(merged, key=lambda progress: (progress.started.ms, progress.replay.id), reverse=True)
    return replays


async def find(server: Redis, shards: Sequence[Shard], replay_id: str) -> Progress:
    """Return the replay with this id. Raises CommandError if it does not exist, and RedisError."""
    for progress in await list_replays(server, shards, None):
        if progress.replay.id == replay_id:
            return progress
    raise CommandError(f"no replay {replay_id!r}; `ackstream replay list` shows all")


async def _find_parts(server: Redis, shards: Sequence[Shard], replay: Replay) -> list[tuple[Replays, Progress]]:
    repositories = [Replays(GroupRef(server, shard, replay.group)) for shard in shards]
    parts = [(repository, await repository.find(replay.id)) for repository in repositories]
    return [(repository, part) for repository, part in parts if part is not None]


MOVES = {
    "pause": (State.PAUSED, (State.RUNNING,)),
    "resume": (State.RUNNING, (State.PAUSED, State.FAILED)),
    "cancel": (State.CANCELLED, (State.RUNNING, State.PAUSED, State.FAILED)),
}
"""For each act: the state after it, and the states from which it is possible."""


async def move(
    server: Redis, shards: Sequence[Shard], replay_id: str, act: str, *, person: str = "", why: str = ""
) -> Progress:
    """Pause, resume or cancel the replay; return its progress. Raises CommandError in another state, and RedisError."""
    to, allowed = MOVES[act]
    progress = await find(server, shards, replay_id)
    before = [
        await replays.change_state(part.replay, to, allowed=allowed, person=person, why=why)
        for replays, part in await _find_parts(server, shards, progress.replay)
    ]
    if not any(state in (*allowed, to) for state in before):
        raise CommandError(f"replay {replay_id} is {progress.state} already")
    return await find(server, shards, replay_id)


async def change_rate(server: Redis, shards: Sequence[Shard], replay_id: str, rate: float) -> Progress:
    """Change the rate of the replay; its worker follows within seconds. Raises CommandError if it has ended."""
    progress = await find(server, shards, replay_id)
    parts = [
        (replays, part.replay)
        for replays, part in await _find_parts(server, shards, progress.replay)
        if part.state not in ENDED
    ]
    total = sum(part.total for _, part in parts)
    states = [await replays.change_rate(part, rate * part.total / total) for replays, part in parts]
    if all(state is None or state in ENDED for state in states):
        raise CommandError(f"replay {replay_id} is {(await find(server, shards, replay_id)).state} already")
    return await find(server, shards, replay_id)
