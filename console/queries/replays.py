"""Replays as a person sees them: what one would copy, starting it, changing its state."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from runtime.errors import Refusal
from stream.entry import EntryId, read_received_ms
from stream.keys import Shard
from worker.events.timestamps import iso_time
from worker.group.consumer_group import read_group_names
from worker.replay.entry_filter import EntryFilter
from worker.replay.entry_reader import Pages, Span, Stored, read_archive_and_stream, read_stream
from worker.replay.job import Place, Progress, Replay, State
from worker.replay.repository import Replays
from worker.retention.archive_reader import ArchiveDamaged


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What a replay is to be of. ``group`` may be missing as long as nothing is started."""

    shard: Shard
    group: str | None
    place: Place
    selection: EntryFilter
    rate: float
    archive: Path | None


@dataclass(slots=True)
class ReplayPlan:
    """What would be replayed."""

    entries: int = 0
    bytes: int = 0
    received_ms: tuple[int, int] | None = None
    """The least and the greatest of them; None if none says."""
    span: tuple[EntryId, EntryId] | None = None
    """The first and the last entry."""

    def add(self, stored: Stored) -> None:
        """Count one more, after all those before."""
        self.entries += 1
        self.bytes += stored.size
        moment = read_received_ms(stored.fields)
        if moment is not None:
            least, greatest = self.received_ms or (moment, moment)
            self.received_ms = min(least, moment), max(greatest, moment)
        self.span = (self.span[0] if self.span else stored.id), stored.id

    def summary(self, rate: float) -> dict[str, Any]:
        """Return it as what JSON can hold."""
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


async def plan(server: Redis, wanted: ReplayRequest) -> ReplayPlan:
    """Look at all that is stored now. Raises RedisError, and Refusal for an unknown group or a damaged archive."""
    await check_group(server, wanted.shard, wanted.group)
    found, dead = ReplayPlan(), wanted.place is Place.DEAD
    try:
        async for page in await _pages(server, wanted):
            for stored in page:
                if wanted.selection.matches(stored.id, stored.fields, dead=dead):
                    found.add(stored)
    except ArchiveDamaged as exc:
        raise Refusal(f"the archive cannot be used: {exc}; restore the file, or leave out its time") from None
    return found


async def _pages(server: Redis, wanted: ReplayRequest) -> Pages:
    """Read as far as there is something now: what comes meanwhile is no part of it."""
    shard = wanted.shard
    key = shard.dead(wanted.group or "") if wanted.place is Place.DEAD else shard.stream
    named = Span.of(shard.number, wanted.selection.ids)
    first: Any = await server.xrange(key, count=1)
    last: Any = await server.xrevrange(key, count=1)
    newest = EntryId.from_redis(shard.number, last[0][0]) if last else named.begin
    boundary = EntryId.from_redis(shard.number, first[0][0]) if first else None
    if wanted.place is Place.ARCHIVE and wanted.archive is not None:
        span = Span(named.begin, min(named.end, newest) if last else named.end)
        return read_archive_and_stream(server, key, wanted.archive, span, boundary, wanted.selection.received_span)
    return read_stream(server, key, Span(named.begin, min(named.end, newest)))


async def start(server: Redis, wanted: ReplayRequest, found: ReplayPlan) -> Replay:
    """Have a worker of the group begin with what was found. Raises Refusal if the group is gone, and RedisError."""
    assert wanted.group is not None  # noqa: S101 - whoever starts one has named it
    assert found.span is not None  # noqa: S101 - nor does anybody start one of nothing
    seconds, microseconds = await server.time()
    replay = Replay(
        id=secrets.token_hex(4),
        group=wanted.group,
        place=wanted.place,
        selection=wanted.selection,
        rate=wanted.rate,
        begin=(await _begin(server, wanted, found.span[0])).redis,
        end=found.span[1].redis,
        total=found.entries,
        started_ms=seconds * 1000 + microseconds // 1000,
    )
    if not await Replays(server, wanted.shard, wanted.group).start(replay):
        raise Refusal(f"no group {wanted.group!r} is registered: start a worker of it first")
    return replay


async def _begin(server: Redis, wanted: ReplayRequest, first: EntryId) -> EntryId:
    """Return where to begin: with the archive no later than the stream, from which more may be archived by now."""
    if wanted.place is Place.ARCHIVE:
        oldest: Any = await server.xrange(wanted.shard.stream, count=1)
        if oldest:
            first = min(first, EntryId.from_redis(wanted.shard.number, oldest[0][0]))
    return first.before()


async def check_group(server: Redis, shard: Shard, group: str | None) -> None:
    """Raise Refusal if somebody named a group that there is not."""
    known = await read_group_names(server, shard)
    if group is not None and group not in known:
        raise Refusal(f"no group {group!r}; the groups are: {', '.join(known) or 'none yet, start a worker'}")


async def list_replays(server: Redis, shard: Shard, group: str | None) -> list[Progress]:
    """Return the replays of the group, or of all; of each group the newest first. Raises Refusal, RedisError."""
    await check_group(server, shard, group)
    groups = await read_group_names(server, shard) if group is None else [group]
    return [one for name in groups for one in await Replays(server, shard, name).all()]


async def find(server: Redis, shard: Shard, replay_id: str) -> Progress:
    """Return the replay of this id. Raises Refusal if there is none, and RedisError."""
    for one in await list_replays(server, shard, None):
        if one.replay.id == replay_id:
            return one
    raise Refusal(f"no replay {replay_id!r}; `ackstream replay list` shows all")


async def move(server: Redis, shard: Shard, replay_id: str, to: State, of: Sequence[State]) -> Progress:
    """Give the replay this state; return it as it is then. Raises Refusal if its state does not allow that."""
    replay = (await find(server, shard, replay_id)).replay
    was = await Replays(server, shard, replay.group).move(replay, to, of=of)
    if was not in (*of, to):
        raise Refusal(f"replay {replay_id} is {was} already" if was else f"no replay {replay_id!r}")
    return await find(server, shard, replay_id)
