"""Count the open work of each group: unread and pending entries, retries, dead letters, age of the oldest entry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from redis.asyncio import Redis

from console.format import to_text
from console.queries.invalid import count_invalid
from stream.entry import EntryId, read_ms
from stream.keys import Shard
from stream.redis.scripts import read_script

COUNTED_AT_MOST = 10_000

STATS = read_script(__file__, "stats.lua")


@dataclass(frozen=True, slots=True)
class GroupStats:
    """The open work of one group on one shard. A group of another program has no more than a position."""

    name: str
    registered: bool
    delivered: str
    """The last id that the group has read, in the form of Redis."""
    unread: int | None
    """The lag; None if the server does not report it."""
    pending: int
    read: int | None
    """Entries that the group has read; None if the server does not report it."""
    oldest_ms: int | None
    """The time of the oldest unread or pending entry; None without one."""
    retries: int = 0
    """Delayed retries, waiting or in flight."""
    replays: int = 0
    dead: int = 0
    paused: str | None = None
    paused_ms: int | None = None
    """The start of the pause."""
    beats: Mapping[str, str] = field(default_factory=dict)
    """Consumer → counter, as worker.group.heartbeat keeps them."""

    @classmethod
    def from_reply(cls, shard: int, reply: Sequence[Any]) -> Self:
        """Decode a group of the script's reply."""
        name, delivered, lag, pending, read, oldest, *registered = reply
        position = cls(
            name=to_text(name),
            registered=False,
            delivered=delivered.decode(),
            unread=None if lag < 0 else lag,
            pending=pending,
            read=None if read < 0 else read,
            oldest_ms=EntryId.from_redis(shard, oldest).ms if oldest else None,
        )
        if not registered:
            return position
        delayed, retry, replays, dead, why, since, beats = registered
        return replace(
            position,
            registered=True,
            retries=delayed + retry,
            replays=replays,
            dead=dead,
            paused=to_text(why) or None,
            paused_ms=read_ms(since),
            beats=dict(zip(map(to_text, beats[::2]), map(to_text, beats[1::2]), strict=True)),
        )


@dataclass(frozen=True, slots=True)
class ShardStats:
    """The size of one shard and the open work of its groups."""

    shard: Shard
    now_ms: int
    """The clock of the server, which also makes the ids of the entries."""
    length: int
    added: int
    """Entries ever appended to the stream."""
    first_ms: int | None
    """The time of the oldest entry; None if the stream is empty."""
    last_ms: int | None
    """The time of the newest entry, also if it was removed; None without any."""
    server_id: str | None
    invalid: int
    quarantined: int
    groups: Sequence[GroupStats]

    def oldest_seconds(self, group: GroupStats) -> float | None:
        """Return the age of the oldest unread or pending entry of a group; None without one."""
        return None if group.oldest_ms is None else max(self.now_ms - group.oldest_ms, 0) / 1000


class StatsReader:
    """Reads the stats of one shard again and again, with one script that runs for some tens of microseconds.

    One script reads all counts, because workers move copies between these keys.
    """

    def __init__(self, server: Redis, shard: Shard) -> None:
        self._shard = shard
        self._script = server.register_script(STATS)
        self._names: list[bytes] = []

    async def read(self) -> ShardStats:
        """Return the stats of this moment. Raises RedisError."""
        while True:
            reply = await self._script(keys=self._keys(), args=self._names)
            names = sorted(reply[8])
            if names == self._names:
                return self._parse(reply)
            self._names = names

    def _keys(self) -> list[str | bytes]:
        shard = self._shard
        kinds = (shard.alive, shard.delayed, shard.retry, shard.replay, shard.dead, shard.paused)
        keys = [kind("").encode() + name for name in self._names for kind in kinds]
        return [shard.stream, shard.groups, shard.server_id, shard.invalid, shard.quarantine, *keys]

    def _parse(self, reply: Sequence[Any]) -> ShardStats:
        now_ms, length, added, first, last, server_id, invalid, quarantined, _, groups = reply
        number = self._shard.number
        return ShardStats(
            shard=self._shard,
            now_ms=now_ms,
            length=length,
            added=added,
            first_ms=EntryId.from_redis(number, first).ms if first else None,
            last_ms=EntryId.from_redis(number, last).ms if last else None,
            server_id=to_text(server_id) or None,
            invalid=invalid,
            quarantined=quarantined,
            groups=[GroupStats.from_reply(number, group) for group in groups],
        )


async def gather_stats(server: Redis, shards: Sequence[Shard]) -> Mapping[str, Any]:
    """Return the length of each shard, and the open work of each registered group on all of them. Raises RedisError.

    ``unread`` is the group's lag. If the server does not report the lag, entries are counted up to COUNTED_AT_MOST, and
    ``unread_exact`` is false if that limit was reached. ``retries`` counts delayed retries, waiting or in flight;
    ``replays`` counts replayed entries that are not settled. ``paused`` is the reason of a pause, or None.
    ``outstanding`` is the sum of all work that is neither settled nor dead-lettered. ``oldest_seconds`` is the age of
    the oldest unread or pending entry by the server's clock, or None; retries and replays do not count. ``owners`` has
    the live consumer that handles each shard in order mode. ``invalid`` counts the shard's recorded invalid payloads
    that no signature verifies.
    """
    parts: dict[str, list[Mapping[str, Any]]] = {}
    lengths = []
    for shard in shards:
        stats = await StatsReader(server, shard).read()
        invalid = await count_invalid(server, shard)
        lengths.append({"shard": shard.number, "length": stats.length, "invalid": invalid})
        for group in stats.groups:
            if group.registered:
                parts.setdefault(group.name, []).append(await _describe(server, stats, group))
    return {"shards": lengths, "groups": {name: _add_up(parts[name]) for name in sorted(parts)}}


def _add_up(parts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the open work of a group on several shards. Its pause is on shard 0."""
    ages = [part["oldest_seconds"] for part in parts if part["oldest_seconds"] is not None]
    counts = ("unread", "pending", "retries", "replays", "dead", "outstanding")
    return {
        **parts[0],
        **{name: sum(part[name] for part in parts) for name in counts},
        "unread_exact": all(part["unread_exact"] for part in parts),
        "oldest_seconds": max(ages, default=None),
        "owners": [owner for part in parts for owner in part["owners"]],
    }


async def _describe(server: Redis, stats: ShardStats, group: GroupStats) -> Mapping[str, Any]:
    unread = await _count_unread(server, stats.shard, group) if group.unread is None else group.unread
    seconds = stats.oldest_seconds(group)
    return {
        "unread": unread,
        "unread_exact": group.unread is not None or unread < COUNTED_AT_MOST,
        "pending": group.pending,
        "retries": group.retries,
        "replays": group.replays,
        "dead": group.dead,
        "paused": group.paused,
        "outstanding": unread + group.pending + group.retries + group.replays,
        "oldest_seconds": None if seconds is None else round(seconds, 3),
        "owners": await _find_owner(server, stats.shard, group),
    }


async def _find_owner(server: Redis, shard: Shard, group: GroupStats) -> Sequence[Mapping[str, Any]]:
    owner: Any = await server.get(shard.owner(group.name))
    is_alive = owner is not None and to_text(owner) in group.beats
    return [{"shard": shard.number, "consumer": to_text(owner)}] if is_alive else []


async def _count_unread(server: Redis, shard: Shard, group: GroupStats) -> int:
    entries: Any = await server.xrange(shard.stream, f"({group.delivered}", "+", count=COUNTED_AT_MOST)
    return len(entries)
