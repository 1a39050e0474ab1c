"""List, pause, probe, resume and drop the consumer groups of a stream, registered or foreign."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from runtime.errors import CommandError
from stream.entry import EntryId
from stream.keys import Shard
from stream.redis.scripts import read_script
from worker.dispatch.pause import (
    PauseReason,
    PauseRecord,
    describe_reason,
    hasten_probe,
    pause_by_hand,
    read_pause,
    resume,
)
from worker.events.timestamps import iso_time
from worker.group.consumer_group import read_group_names
from worker.group.group_ref import GroupRef
from worker.retention.ack_floor import AckFloor, GroupPosition, Survey
from worker.timing import TIMING

WATCH_SECONDS = TIMING.beat + 1.0
READING_SECONDS = 5.0
"""In a listing, a consumer that read within this time counts as alive without a check of its heartbeat."""
FOREIGN_IDLE_SECONDS = 60.0
COUNTED_AT_MOST = 10_000

POLL_SECONDS = 0.2

Beats = Mapping[bytes, bytes]
"""Consumer → counter, as worker.group.heartbeat keeps them."""

DROP = read_script(__file__, "drop_group.lua")


@dataclass(frozen=True, slots=True)
class GroupLiveness:
    """The number of a group's live consumers, and the counters of all heartbeats."""

    alive: int
    beats: Beats


@dataclass(frozen=True, slots=True)
class GroupState:
    """The state of one group.

    The group keeps ``kept_entries`` entries on the stream; if ``exact`` is false, it keeps at least that many.
    """

    standing: GroupPosition
    liveness: GroupLiveness
    kept_entries: int
    exact: bool
    kept_bytes: int
    oldest_seconds: float | None
    checkpoint: EntryId | None
    dead: int
    pause: PauseRecord | None

    def summary(self) -> dict[str, Any]:
        """Return the line of a listing."""
        return {
            "group": self.standing.name,
            "registered": self.standing.registered,
            "exists": self.standing.exists,
            "alive": self.liveness.alive,
            "unread": self.standing.unread,
            "pending": self.standing.pending,
            "dead": self.dead,
            "paused": self.pause and self.pause.reason,
            "paused_since": self.pause and iso_time(self.pause.since_ms),
            "paused_by": (self.pause and self.pause.person) or None,
            "paused_why": (self.pause and self.pause.why) or None,
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
            "kept_entries": self.kept_entries,
            "kept_exact": self.exact,
            "kept_bytes": self.kept_bytes,
            "oldest_seconds": self.oldest_seconds,
        }


async def list_groups(server: Redis, shard: Shard, report_wait: Callable[[float], None]) -> list[GroupState]:
    """Return all groups, sorted by name. Raises RedisError.

    Consumers that have not read lately are watched for up to WATCH_SECONDS, after a call of ``report_wait``: a busy
    consumer differs from a dead one only by a heartbeat that advances.
    """
    survey = await AckFloor(server, shard).survey()
    liveness = await _watch(server, shard, survey.groups, report_wait)
    groups = sorted(survey.groups, key=lambda position: position.name)
    return [await _state(server, shard, survey, position, liveness[position.name]) for position in groups]


async def find_group(server: Redis, shard: Shard, name: str) -> GroupState:
    """Return the group with this name. Watches its heartbeats. Raises CommandError if it is missing, and RedisError."""
    survey = await AckFloor(server, shard).survey()
    position = next((group for group in survey.groups if group.name == name), None)
    if position is None:
        raise _unknown(name, survey)
    liveness = await _watch(server, shard, [position])
    return await _state(server, shard, survey, position, liveness[name])


async def pause_group(server: Redis, shard: Shard, name: str, person: str, why: str) -> None:
    """Pause the group until `resume`. Raises CommandError if it is not registered, and RedisError."""
    names = await read_group_names(server, shard)
    if name not in names:
        raise CommandError(f"no group {name!r} is registered; the groups are: {', '.join(names) or 'none yet'}")
    await pause_by_hand(GroupRef(server, shard, name), person, why)


async def probe_group(server: Redis, shard: Shard, name: str) -> bool:
    """Let a worker of a failing group try one call at once; return False if one is being tried already.

    Raises CommandError if the group does not exist or is not paused for failures, and RedisError.
    """
    survey = await AckFloor(server, shard).survey()
    if name not in {group.name for group in survey.groups}:
        raise _unknown(name, survey)
    reason, is_probing = await hasten_probe(GroupRef(server, shard, name))
    if reason != PauseReason.FAILING:
        why = f"is paused for another reason ({describe_reason(reason)})" if reason else "is not paused"
        raise CommandError(f"group {name!r} {why}, so nothing is tried")
    return not is_probing


async def resume_group(server: Redis, shard: Shard, name: str) -> str | None:
    """Resume the group; return why it was paused, or None. Raises CommandError if it does not exist, and RedisError."""
    survey = await AckFloor(server, shard).survey()
    if name not in {group.name for group in survey.groups}:
        raise _unknown(name, survey)
    return await resume(GroupRef(server, shard, name))


def _unknown(name: str, survey: Survey) -> CommandError:
    names = ", ".join(sorted(group.name for group in survey.groups))
    return CommandError(f"no group {name!r}; the groups are: {names or 'none yet, start a worker'}")


async def drop_group(server: Redis, shard: Shard, state: GroupState, *, force: bool, dead: bool) -> bool:
    """Remove the group and all its keys, and with ``dead`` its dead letters; return whether it was removed.

    Without ``force`` nothing is removed if a consumer has started since ``state`` was read. Raises RedisError.
    """
    name = state.standing.name
    letters = [shard.dead(name)] if dead else []
    beats = [part for pair in state.liveness.beats.items() for part in pair]
    drop = server.register_script(DROP)
    keys = [shard.stream, shard.groups, shard.alive(name), shard.replays(name), *shard.progress(name), *letters]
    return bool(await drop(keys=keys, args=[name, int(force), *beats]))


async def _state(
    server: Redis, shard: Shard, survey: Survey, standing: GroupPosition, liveness: GroupLiveness
) -> GroupState:
    kept_entries, exact = await _count_kept(server, shard, standing)
    saved = await server.get(shard.checkpoint(standing.name))
    return GroupState(
        standing=standing,
        liveness=liveness,
        kept_entries=kept_entries,
        exact=exact,
        kept_bytes=kept_entries * survey.stream_bytes // max(survey.length, 1),
        oldest_seconds=survey.oldest_unsettled_seconds(standing) if kept_entries else None,
        checkpoint=None if saved is None else EntryId.from_redis(shard.number, saved),
        dead=await server.xlen(shard.dead(standing.name)),
        pause=await read_pause(GroupRef(server, shard, standing.name)),
    )


async def _count_kept(server: Redis, shard: Shard, standing: GroupPosition) -> tuple[int, bool]:
    """Count the entries from the group's floor on, up to a limit; return the least number and whether it is exact."""
    if standing.unread is not None and not standing.pending:
        return standing.unread, True
    entries: Any = await server.xrange(shard.stream, standing.floor.redis, count=COUNTED_AT_MOST)
    if len(entries) < COUNTED_AT_MOST:
        return len(entries), True
    return max(len(entries), (standing.unread or 0) + standing.pending), False


async def _watch(
    server: Redis, shard: Shard, groups: Sequence[GroupPosition], report_wait: Callable[[float], None] | None = None
) -> dict[str, GroupLiveness]:
    """Find the live consumers of each group.

    In a registered group a consumer is alive if its heartbeat advances, in a foreign group if it was active within
    FOREIGN_IDLE_SECONDS. With ``report_wait`` a consumer that read lately counts too, so most listings need no wait.
    """
    idle = {group.name: await _idle_seconds(server, shard, group) for group in groups}
    reading = {name: _below(consumers, READING_SECONDS if report_wait else 0) for name, consumers in idle.items()}
    before = {group.name: await _beats(server, shard, group.name) for group in groups}
    now, deadline = before, time.monotonic() + WATCH_SECONDS

    def find_alive(name: str) -> set[bytes]:
        return {
            consumer
            for consumer, beat in now[name].items()
            if before[name].get(consumer) != beat or consumer in reading[name]
        }

    if report_wait and any(len(find_alive(name)) < len(before[name]) for name in before):
        report_wait(WATCH_SECONDS)
    while any(len(find_alive(name)) < len(before[name]) for name in before) and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS)
        now = {name: await _beats(server, shard, name) for name in before}
    foreign = {group.name: _below(idle[group.name], FOREIGN_IDLE_SECONDS) for group in groups if not group.registered}
    return {name: GroupLiveness(len(foreign.get(name, find_alive(name))), now[name]) for name in before}


async def _idle_seconds(server: Redis, shard: Shard, group: GroupPosition) -> Mapping[bytes, float]:
    """Return the seconds since each consumer of the group last read."""
    consumers: Any = await server.xinfo_consumers(shard.stream, group.name) if group.exists else []
    return {consumer["name"]: consumer["idle"] / 1000 for consumer in consumers}


def _below(consumers: Mapping[bytes, float], seconds: float) -> set[bytes]:
    return {name for name, idle in consumers.items() if idle < seconds}


async def _beats(server: Redis, shard: Shard, name: str) -> Beats:
    beats: Any = await server.hgetall(shard.alive(name))
    return beats  # type: ignore[no-any-return]
