"""Count the open work of each group: unread and pending entries, retries, dead letters, age of the oldest entry."""

from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from console.queries.invalid import count_invalid
from stream.entry import EntryId
from stream.keys import Shard
from worker.dispatch.pause import read_pause_reason
from worker.group.consumer_group import read_group_names
from worker.group.group_ref import GroupRef

COUNTED_AT_MOST = 10_000


async def gather_stats(server: Redis, shard: Shard) -> Mapping[str, Any]:
    """Return the shard's length, and the open work of each registered group. Raises RedisError.

    ``unread`` is the group's lag. If the server does not report the lag, entries are counted up to COUNTED_AT_MOST, and
    ``unread_exact`` is false if that limit was reached. ``retries`` counts delayed retries, waiting or in flight;
    ``replays`` counts replayed entries that are not settled. ``paused`` is the reason of a pause, or None.
    ``outstanding`` is the sum of all work that is neither settled nor dead-lettered. ``oldest_seconds`` is the age of
    the oldest unread or pending entry by the server's clock, or None; retries and replays do not count. ``invalid``
    counts the shard's recorded invalid payloads that no signature verifies.
    """
    names = await read_group_names(server, shard)
    length, groups, counts = await _counts(server, shard, names)
    return {
        "shards": [{"shard": shard.number, "length": length, "invalid": await count_invalid(server, shard)}],
        "groups": {name: await _group(server, shard, name, groups.get(name), counts[name]) for name in names},
    }


async def _counts(
    server: Redis, shard: Shard, names: Sequence[str]
) -> tuple[int, Mapping[str, Any], Mapping[str, list[int]]]:
    """Return the stream's length, XINFO GROUPS by name, and the lengths of each group's keys.

    One transaction reads all of them, because workers move copies between these keys.
    """
    async with server.pipeline(transaction=True) as pipe:
        pipe.xlen(shard.stream)
        pipe.xinfo_groups(shard.stream)
        for name in names:
            pipe.zcard(shard.delayed(name))
            for stream in (shard.retry(name), shard.replay(name), shard.dead(name)):
                pipe.xlen(stream)
        length, groups, *lengths = await pipe.execute(raise_on_error=False)
    if failures := [reply for reply in (length, *lengths) if isinstance(reply, Exception)]:
        raise failures[0]
    existing = [] if isinstance(groups, ResponseError) else groups  # the stream does not exist yet
    counts = {name: lengths[4 * place : 4 * place + 4] for place, name in enumerate(names)}
    return length, {group["name"].decode(): group for group in existing}, counts


async def _group(
    server: Redis, shard: Shard, name: str, group: Mapping[str, Any] | None, counts: Sequence[int]
) -> Mapping[str, Any]:
    delivered = group["last-delivered-id"].decode() if group else "0-0"
    lag = group["lag"] if group else None
    unread = len(await _unread(server, shard, delivered, COUNTED_AT_MOST)) if lag is None else lag
    pending = group["pending"] if group else 0
    delayed, retry, replays, dead = counts
    return {
        "unread": unread,
        "unread_exact": lag is not None or unread < COUNTED_AT_MOST,
        "pending": pending,
        "retries": delayed + retry,
        "replays": replays,
        "dead": dead,
        "paused": await read_pause_reason(GroupRef(server, shard, name)),
        "outstanding": unread + pending + delayed + retry + replays,
        "oldest_seconds": await _oldest_seconds(server, shard, name, delivered, pending),
    }


async def _oldest_seconds(server: Redis, shard: Shard, name: str, delivered: str, pending: int) -> float | None:
    if pending:
        oldest = (await server.xpending(shard.stream, name))["min"]
    else:
        unread = await _unread(server, shard, delivered, 1)
        oldest = unread[0][0] if unread else None
    if oldest is None:
        return None
    seconds, microseconds = await server.time()
    age = seconds + microseconds / 1e6 - EntryId.from_redis(shard.number, oldest).ms / 1e3
    return round(max(age, 0.0), 3)


async def _unread(server: Redis, shard: Shard, delivered: str, limit: int) -> list[Any]:
    entries: Any = await server.xrange(shard.stream, f"({delivered}", "+", count=limit)
    return list(entries)
