"""List, pause, probe, resume and drop the consumer groups of a stream, registered or foreign."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.format import format_shards
from runtime.errors import CommandError, PartlyDone
from stream.entry import EntryId
from stream.keys import Shard
from stream.redis.errors import quote_reason
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

ShardGroup = tuple[Shard, GroupPosition]
Beats = Mapping[bytes, bytes]
"""Consumer → counter, as worker.group.heartbeat keeps them."""

DROP = read_script(__file__, "drop_group.lua")


@dataclass(frozen=True, slots=True)
class GroupLiveness:
    """The number of a group's live consumers on the shard with the fewest, and the counters of all heartbeats."""

    alive: int
    beats: Beats
    most_alive: int
    """The number on the shard with the most: a group is only dropped if none lives anywhere."""

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """Return the consumers over all shards. Each worker has one on each shard that it knows."""
        beats = {consumer: beat for part in parts for consumer, beat in part.beats.items()}
        return cls(min(part.alive for part in parts), beats, max(part.most_alive for part in parts))


@dataclass(frozen=True, slots=True)
class GroupState:
    """The state of one group, over all shards that have it.

    The group keeps ``kept_entries`` entries on the stream; if ``exact`` is false, it keeps at least that many.
    """

    standing: GroupPosition
    liveness: GroupLiveness
    kept_entries: int
    exact: bool
    kept_bytes: int
    oldest_seconds: float | None
    checkpoints: tuple[EntryId, ...]
    """One for each shard that has one."""
    dead: int
    pause: PauseRecord | None

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """Return a group over all shards that have it. A worker counts as alive if it lives on each of them."""
        ages = [part.oldest_seconds for part in parts if part.oldest_seconds is not None]
        return cls(
            standing=GroupPosition.merge([part.standing for part in parts]),
            liveness=GroupLiveness.merge([part.liveness for part in parts]),
            kept_entries=sum(part.kept_entries for part in parts),
            exact=all(part.exact for part in parts),
            kept_bytes=sum(part.kept_bytes for part in parts),
            oldest_seconds=max(ages, default=None),
            checkpoints=tuple(checkpoint for part in parts for checkpoint in part.checkpoints),
            dead=sum(part.dead for part in parts),
            pause=next((part.pause for part in parts if part.pause), None),
        )

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
            "checkpoint": ", ".join(map(str, self.checkpoints)) or None,
            "kept_entries": self.kept_entries,
            "kept_exact": self.exact,
            "kept_bytes": self.kept_bytes,
            "oldest_seconds": self.oldest_seconds,
        }


async def list_groups(server: Redis, shards: Sequence[Shard], report_wait: Callable[[float], None]) -> list[GroupState]:
    """Return all groups, sorted by name. Raises RedisError.

    Consumers that have not read lately are watched for up to WATCH_SECONDS, after a call of ``report_wait``: a busy
    consumer differs from a dead one only by a heartbeat that advances.
    """
    surveys = {shard: await AckFloor(server, shard).survey() for shard in shards}
    parts = [(shard, position) for shard, survey in surveys.items() for position in survey.groups]
    liveness = await _watch(server, parts, report_wait)
    states: dict[str, list[GroupState]] = {}
    for shard, position in parts:
        state = await _state(server, shard, surveys[shard], position, liveness[shard, position.name])
        states.setdefault(position.name, []).append(state)
    return [GroupState.merge(states[name]) for name in sorted(states)]


async def find_group(server: Redis, shards: Sequence[Shard], name: str) -> GroupState:
    """Return the group with this name. Watches its heartbeats. Raises CommandError if it is missing, and RedisError."""
    surveys = {shard: await AckFloor(server, shard).survey() for shard in shards}
    parts = [(shard, group) for shard, survey in surveys.items() for group in survey.groups if group.name == name]
    if not parts:
        raise _unknown(name, surveys[shards[0]])
    liveness = await _watch(server, parts)
    return GroupState.merge(
        [await _state(server, shard, surveys[shard], group, liveness[shard, name]) for shard, group in parts]
    )


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


async def drop_group(server: Redis, shards: Sequence[Shard], state: GroupState, *, force: bool, dead: bool) -> bool:
    """Remove the group and all its keys, and with ``dead`` its dead letters; return whether it was removed.

    Without ``force`` nothing more is removed if a consumer has started since ``state`` was read. Raises RedisError, and
    PartlyDone if some shards have lost the group by then.
    """
    name = state.standing.name
    beats = [part for pair in state.liveness.beats.items() for part in pair]
    drop = server.register_script(DROP)
    dropped: list[int] = []
    try:
        for shard in shards:
            letters = [shard.dead(name)] if dead else []
            keys = [shard.stream, shard.groups, shard.alive(name), shard.replays(name), *shard.progress(name), *letters]
            if await drop(keys=keys, args=[name, int(force), *beats]):
                dropped.append(shard.number)
            elif dropped:
                raise _name_part(name, dropped, "a consumer has started", "stop its workers, and")
            else:
                return False
    except RedisError as exc:
        if not dropped:
            raise
        raise _name_part(name, dropped, quote_reason(exc), "when Redis answers,") from exc
    return True


def _name_part(name: str, dropped: Sequence[int], reason: str, first_step: str) -> PartlyDone:
    where = f"group {name!r} is dropped on {format_shards(dropped)} only"
    return PartlyDone(f"{where} ({reason}): {first_step} drop it again")


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
        checkpoints=_parse_checkpoint(shard, saved),
        dead=await server.xlen(shard.dead(standing.name)),
        pause=await read_pause(GroupRef(server, shard, standing.name)),
    )


def _parse_checkpoint(shard: Shard, saved: bytes | str | None) -> tuple[EntryId, ...]:
    """Return the checkpoint; nothing for a text that is no id, which the worker ignores too."""
    with suppress(ValueError):
        return (EntryId.from_redis(shard.number, saved or b""),)
    return ()


async def _count_kept(server: Redis, shard: Shard, standing: GroupPosition) -> tuple[int, bool]:
    """Count the entries from the group's floor on, up to a limit; return the least number and whether it is exact."""
    if standing.unread is not None and not standing.pending:
        return standing.unread, True
    entries: Any = await server.xrange(shard.stream, standing.floor.redis, count=COUNTED_AT_MOST)
    if len(entries) < COUNTED_AT_MOST:
        return len(entries), True
    return max(len(entries), (standing.unread or 0) + standing.pending), False


async def _watch(
    server: Redis, groups: Sequence[ShardGroup], report_wait: Callable[[float], None] | None = None
) -> dict[tuple[Shard, str], GroupLiveness]:
    """Find the live consumers of each group on each shard.

    In a registered group a consumer is alive if its heartbeat advances, in a foreign group if it was active within
    FOREIGN_IDLE_SECONDS. With ``report_wait`` a consumer that read lately counts too, so most listings need no wait.
    """
    idle = {(shard, group.name): await _idle_seconds(server, shard, group) for shard, group in groups}
    reading = {key: _below(consumers, READING_SECONDS if report_wait else 0) for key, consumers in idle.items()}
    before = {key: await _beats(server, *key) for key in idle}
    now, deadline = before, time.monotonic() + WATCH_SECONDS

    def find_alive(key: tuple[Shard, str]) -> set[bytes]:
        return {
            consumer
            for consumer, beat in now[key].items()
            if before[key].get(consumer) != beat or consumer in reading[key]
        }

    if report_wait and any(len(find_alive(key)) < len(before[key]) for key in before):
        report_wait(WATCH_SECONDS)
    while any(len(find_alive(key)) < len(before[key]) for key in before) and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS)
        now = {key: await _beats(server, *key) for key in before}
    foreign = {
        (shard, group.name): _below(idle[shard, group.name], FOREIGN_IDLE_SECONDS)
        for shard, group in groups
        if not group.registered
    }
    alive = {key: len(foreign.get(key, find_alive(key))) for key in before}
    return {key: GroupLiveness(alive[key], now[key], alive[key]) for key in before}


async def _idle_seconds(server: Redis, shard: Shard, group: GroupPosition) -> Mapping[bytes, float]:
    """Return the seconds since each consumer of the group last read."""
    consumers: Any = await server.xinfo_consumers(shard.stream, group.name) if group.exists else []
    return {consumer["name"]: consumer["idle"] / 1000 for consumer in consumers}


def _below(consumers: Mapping[bytes, float], seconds: float) -> set[bytes]:
    return {name for name, idle in consumers.items() if idle < seconds}


async def _beats(server: Redis, shard: Shard, name: str) -> Beats:
    beats: Any = await server.hgetall(shard.alive(name))
    return beats  # type: ignore[no-any-return]
