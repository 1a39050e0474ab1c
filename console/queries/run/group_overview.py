"""Read all groups for a page: open work, the pause, the part of the stream that each keeps, and consumers.

Unlike console.queries.groups it waits for no heartbeat and reads no entries, so a page can ask again every second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream.entry import EntryId
from stream.keys import Shard
from worker.dispatch.pause import PauseRecord
from worker.group.group_ref import GroupRef
from worker.retention.ack_floor import AckFloor, GroupPosition, Survey

READING_SECONDS = 10.0
"""A consumer that read within this time is alive: a worker waits at most some seconds in one read."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The part of the stream that a group keeps from being trimmed. Without ``exact`` the numbers are estimates."""

    entries: int
    bytes: int
    seconds: float | None
    """The age of the oldest entry."""
    exact: bool

    @classmethod
    def sum_up(cls, parts: Sequence[Self]) -> Self:
        """Return what a group keeps on several shards."""
        seconds = [part.seconds for part in parts if part.seconds is not None]
        entries, size = sum(part.entries for part in parts), sum(part.bytes for part in parts)
        return cls(entries, size, max(seconds, default=None), all(part.exact for part in parts))

    def summary(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return {"entries": self.entries, "bytes": self.bytes, "seconds": self.seconds, "exact": self.exact}


@dataclass(frozen=True, slots=True)
class GroupOverview:
    """One group over all shards that have it."""

    position: GroupPosition
    kept: Kept
    pause: PauseRecord | None
    delayed: int
    """Retries that wait for their time."""
    retries: int
    """Retries that are due, or in flight."""
    replays: int
    dead: int

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """Return a group over several shards."""
        return cls(
            GroupPosition.merge([part.position for part in parts]),
            Kept.sum_up([part.kept for part in parts]),
            next((part.pause for part in parts if part.pause), None),
            delayed=sum(part.delayed for part in parts),
            retries=sum(part.retries for part in parts),
            replays=sum(part.replays for part in parts),
            dead=sum(part.dead for part in parts),
        )

    @property
    def outstanding(self) -> int | None:
        """The work that is neither settled nor dead-lettered; None if the server does not report the lag."""
        unread = self.position.unread
        return None if unread is None else unread + self.position.pending + self.delayed + self.retries + self.replays


@dataclass(frozen=True, slots=True)
class ConsumerLine:
    """A consumer of a group, over the three streams of the group."""

    name: str
    pending: int
    idle_seconds: float
    """The time since it last read."""
    has_heartbeat: bool

    @property
    def is_alive(self) -> bool | None:
        """Whether it is alive; None if that is not known: a busy worker may not have read for a while."""
        if not self.has_heartbeat:
            return False
        return True if self.idle_seconds < READING_SECONDS else None


async def read_overview(server: Redis, shards: Sequence[Shard]) -> list[GroupOverview]:
    """Return all groups, registered or foreign, sorted by name. Raises RedisError."""
    parts: dict[str, list[GroupOverview]] = {}
    for shard in shards:
        for group in await _read_shard(server, shard):
            parts.setdefault(group.position.name, []).append(group)
    return [GroupOverview.merge(parts[name]) for name in sorted(parts)]


async def _read_shard(server: Redis, shard: Shard) -> list[GroupOverview]:
    survey = await AckFloor(server, shard).survey()
    newest_ms = await _newest_ms(server, shard)
    refs = [GroupRef(server, shard, position.name) for position in survey.groups]
    async with server.pipeline(transaction=False) as pipe:
        for ref in refs:
            pipe.hgetall(ref.paused)
            pipe.zcard(ref.delayed)
            for stream in (ref.retry, ref.replay, ref.dead):
                pipe.xlen(stream)
        replies: list[Any] = await pipe.execute()
    groups = []
    for place, position in enumerate(survey.groups):
        fields, *counts = replies[5 * place : 5 * place + 5]
        kept = _estimate_kept(survey, position, newest_ms)
        groups.append(GroupOverview(position, kept, PauseRecord.from_fields(fields), *counts))
    return groups


async def read_kept(server: Redis, shard: Shard) -> dict[str, Kept]:
    """Return what each group keeps, by name, also the positions of replays. Raises RedisError."""
    survey = await AckFloor(server, shard).survey()
    newest_ms = await _newest_ms(server, shard)
    return {position.name: _estimate_kept(survey, position, newest_ms) for position in survey.groups}


async def _newest_ms(server: Redis, shard: Shard) -> int:
    newest: Any = await server.xrevrange(shard.stream, count=1)
    return EntryId.from_redis(shard.number, newest[0][0]).ms if newest else 0


def _estimate_kept(survey: Survey, position: GroupPosition, newest_ms: int) -> Kept:
    """Return the entries from the group's floor on. Entries behind a pending one are settled, and not counted singly.

    Their number is then estimated from the age of the floor, as if entries arrived evenly.
    """
    unread, is_exact = position.unread, position.unread is not None and not position.pending
    entries = (unread or 0) + position.pending
    if survey.first is not None and not is_exact:
        first_ms, floor_ms = survey.first.ms, max(position.floor.ms, survey.first.ms)
        share = (newest_ms - floor_ms) / (newest_ms - first_ms) if newest_ms > first_ms else 1.0
        entries = min(max(entries, round(survey.length * max(share, 0.0))), survey.length)
    size = entries * survey.stream_bytes // max(survey.length, 1)
    return Kept(entries, size, survey.oldest_unsettled_seconds(position) if entries else None, is_exact)


async def read_consumers(server: Redis, shards: Sequence[Shard], group: str) -> Sequence[ConsumerLine]:
    """Return the consumers of a group, those with the most pending entries first. Raises RedisError.

    A worker has a consumer for each shard.
    """
    lines = [line for shard in shards for line in await _read_consumers(server, shard, group)]
    return sorted(lines, key=lambda consumer: (-consumer.pending, consumer.name))


async def _read_consumers(server: Redis, shard: Shard, group: str) -> list[ConsumerLine]:
    ref = GroupRef(server, shard, group)
    beats: Any = await server.hgetall(ref.alive)
    pending: dict[bytes, int] = dict.fromkeys(beats, 0)
    idle: dict[bytes, float] = {}
    for stream in ref.streams.values():
        for consumer in await _consumers(server, stream, group):
            name = consumer["name"]
            pending[name] = pending.get(name, 0) + consumer["pending"]
            idle[name] = min(idle.get(name, float("inf")), consumer["idle"] / 1000)
    return [
        ConsumerLine(name.decode(errors="backslashreplace"), count, idle.get(name, 0.0), name in beats)
        for name, count in pending.items()
    ]


async def _consumers(server: Redis, stream: str, group: str) -> Sequence[Mapping[str, Any]]:
    try:
        consumers: Any = await server.xinfo_consumers(stream, group)
    except ResponseError as exc:
        if "no such key" in str(exc).lower() or str(exc).startswith("NOGROUP"):
            return []
        raise
    return consumers  # type: ignore[no-any-return]
