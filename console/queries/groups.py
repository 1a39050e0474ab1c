"""Every group of a stream, registered or foreign: where it stands, what it holds back, and how it is given up."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from runtime.errors import Refusal
from stream.entry import EntryId
from stream.keys import Shard
from stream.redis.scripts import read_script
from worker.dispatch.pause import read_pause_reason, resume
from worker.group.group_ref import GroupRef
from worker.retention.ack_floor import AckFloor, GroupPosition, Survey
from worker.timing import TIMING

WATCH_SECONDS = TIMING.beat + 1.0
READING_SECONDS = 5.0
"""A consumer that has asked for entries within this time counts as alive in a listing, without a look at its beats."""
FOREIGN_IDLE_SECONDS = 60.0
COUNTED_AT_MOST = 10_000

POLL_SECONDS = 0.2

Beats = Mapping[bytes, bytes]
"""Consumer → counter, as worker.liveness keeps them."""

DROP = read_script(__file__, "drop_group.lua")


@dataclass(frozen=True, slots=True)
class GroupLiveness:
    """What was seen of a group's consumers: how many are alive, and every heartbeat."""

    alive: int
    beats: Beats


@dataclass(frozen=True, slots=True)
class GroupState:
    """One group. ``kept`` entries stay on the stream because of it, or more unless that is ``exact``."""

    standing: GroupPosition
    seen: GroupLiveness
    kept: int
    exact: bool
    kept_bytes: int
    oldest_seconds: float | None
    checkpoint: EntryId | None
    dead: int
    paused: str | None

    def summary(self) -> dict[str, Any]:
        """Return the line of a listing."""
        return {
            "group": self.standing.name,
            "registered": self.standing.registered,
            "exists": self.standing.exists,
            "alive": self.seen.alive,
            "unread": self.standing.unread,
            "pending": self.standing.pending,
            "dead": self.dead,
            "paused": self.paused,
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
            "kept_entries": self.kept,
            "kept_exact": self.exact,
            "kept_bytes": self.kept_bytes,
            "oldest_seconds": self.oldest_seconds,
        }


async def list_groups(server: Redis, shard: Shard, report_wait: Callable[[float], None]) -> list[GroupState]:
    """Return all groups by name. Raises RedisError.

    Consumers that have not read lately are watched for up to WATCH_SECONDS, after a call of ``report_wait``: only a
    heartbeat that moves tells a busy consumer from a dead one.
    """
    survey = await AckFloor(server, shard).survey()
    seen = await _watch(server, shard, survey.groups, report_wait)
    groups = sorted(survey.groups, key=lambda one: one.name)
    return [await _state(server, shard, survey, one, seen[one.name]) for one in groups]


async def find_group(server: Redis, shard: Shard, name: str) -> GroupState:
    """Return the group of this name; its heartbeats are watched. Raises Refusal if there is none, and RedisError."""
    survey = await AckFloor(server, shard).survey()
    found = next((one for one in survey.groups if one.name == name), None)
    if found is None:
        raise _unknown(name, survey)
    seen = await _watch(server, shard, [found])
    return await _state(server, shard, survey, found, seen[name])


async def resume_group(server: Redis, shard: Shard, name: str) -> str | None:
    """Resume the group; return why it was paused, or None. Raises Refusal if there is no such group, and RedisError."""
    survey = await AckFloor(server, shard).survey()
    if name not in {group.name for group in survey.groups}:
        raise _unknown(name, survey)
    return await resume(GroupRef(server, shard, name))


def _unknown(name: str, survey: Survey) -> Refusal:
    known = ", ".join(sorted(group.name for group in survey.groups))
    return Refusal(f"no group {name!r}; the groups are: {known or 'none yet, start a worker'}")


async def drop_group(server: Redis, shard: Shard, state: GroupState, *, force: bool, dead: bool) -> bool:
    """Remove the group and all that tells of it, and its dead letters if ``dead``.

    False, and nothing is removed, if a consumer has come or come back since the group was seen, unless ``force``.
    Raises RedisError.
    """
    name = state.standing.name
    letters = [shard.dead(name)] if dead else []
    beats = [part for pair in state.seen.beats.items() for part in pair]
    drop = server.register_script(DROP)
    keys = [shard.stream, shard.groups, shard.alive(name), shard.replays(name), *shard.progress(name), *letters]
    return bool(await drop(keys=keys, args=[name, int(force), *beats]))


async def _state(
    server: Redis, shard: Shard, survey: Survey, standing: GroupPosition, seen: GroupLiveness
) -> GroupState:
    kept, exact = await _kept(server, shard, standing)
    saved = await server.get(shard.checkpoint(standing.name))
    return GroupState(
        standing=standing,
        seen=seen,
        kept=kept,
        exact=exact,
        kept_bytes=kept * survey.stream_bytes // max(survey.length, 1),
        oldest_seconds=survey.oldest_unsettled_seconds(standing) if kept else None,
        checkpoint=None if saved is None else EntryId.from_redis(shard.number, saved),
        dead=await server.xlen(shard.dead(standing.name)),
        paused=await read_pause_reason(GroupRef(server, shard, standing.name)),
    )


async def _kept(server: Redis, shard: Shard, standing: GroupPosition) -> tuple[int, bool]:
    """Return how many entries there are from the group's floor on, at least, and whether it is just so many."""
    if standing.unread is not None and not standing.pending:
        return standing.unread, True
    entries: Any = await server.xrange(shard.stream, standing.floor.redis, count=COUNTED_AT_MOST)
    if len(entries) < COUNTED_AT_MOST:
        return len(entries), True
    return max(len(entries), (standing.unread or 0) + standing.pending), False


async def _watch(
    server: Redis, shard: Shard, groups: Sequence[GroupPosition], report_wait: Callable[[float], None] | None = None
) -> dict[str, GroupLiveness]:
    """Find the live consumers: of a registered group those whose beats move, of another those seen within a minute.

    With ``report_wait`` a consumer that reads counts too, so that the answer usually comes at once.
    """
    idle = {group.name: await _idle_seconds(server, shard, group) for group in groups}
    reading = {name: _below(consumers, READING_SECONDS if report_wait else 0) for name, consumers in idle.items()}
    before = {group.name: await _beats(server, shard, group.name) for group in groups}
    now, deadline = before, time.monotonic() + WATCH_SECONDS

    def alive(name: str) -> set[bytes]:
        return {one for one, beat in now[name].items() if before[name].get(one) != beat or one in reading[name]}

    if report_wait and any(len(alive(name)) < len(before[name]) for name in before):
        report_wait(WATCH_SECONDS)
    while any(len(alive(name)) < len(before[name]) for name in before) and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS)
        now = {name: await _beats(server, shard, name) for name in before}
    foreign = {group.name: _below(idle[group.name], FOREIGN_IDLE_SECONDS) for group in groups if not group.registered}
    return {name: GroupLiveness(len(foreign.get(name, alive(name))), now[name]) for name in before}


async def _idle_seconds(server: Redis, shard: Shard, group: GroupPosition) -> Mapping[bytes, float]:
    """Return for how long each consumer of the group has asked for nothing."""
    consumers: Any = await server.xinfo_consumers(shard.stream, group.name) if group.exists else []
    return {consumer["name"]: consumer["idle"] / 1000 for consumer in consumers}


def _below(consumers: Mapping[bytes, float], seconds: float) -> set[bytes]:
    return {name for name, idle in consumers.items() if idle < seconds}


async def _beats(server: Redis, shard: Shard, name: str) -> Beats:
    beats: Any = await server.hgetall(shard.alive(name))
    return beats  # type: ignore[no-any-return]
