"""How much each group has still to do: unread and pending entries, retries, dead letters, and how old the oldest is."""

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
    """Return the shard's length, and for each registered group what is left. Raises RedisError.

    ``unread`` is the group's lag; where the server gives none, entries are counted up to a limit and ``unread_exact``
    is false if it was reached. ``retries`` are the copies that wait for another attempt or are at it, ``replays`` those
    that the group is given again and has not settled. ``paused`` is why the group is paused (worker.pause), None if it
    is not. ``outstanding`` is what is neither settled nor dead. ``oldest_seconds`` is the age of the oldest entry that
    is unread or pending, on the server's clock, None when there is none; copies do not count. ``invalid`` counts the
    shard's record of invalid payloads that no signature proves.
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
    """Return the stream's length, what Redis knows of its groups, and the length of each group's own keys.

    All of one moment, for copies go to and fro between the keys.
    """
    async with server.pipeline(transaction=True) as pipe:
        pipe.xlen(shard.stream)
        pipe.xinfo_groups(shard.stream)
        for name in names:
            pipe.zcard(shard.delayed(name))
            for stream in (shard.retry(name), shard.replay(name), shard.dead(name)):
                pipe.xlen(stream)
        length, groups, *lengths = await pipe.execute(raise_on_error=False)
    if failed := [one for one in (length, *lengths) if isinstance(one, Exception)]:
        raise failed[0]
    known = [] if isinstance(groups, ResponseError) else groups  # there is no such stream
    counts = {name: lengths[4 * place : 4 * place + 4] for place, name in enumerate(names)}
    return length, {group["name"].decode(): group for group in known}, counts


async def _group(
    server: Redis, shard: Shard, name: str, group: Mapping[str, Any] | None, counts: Sequence[int]
) -> Mapping[str, Any]:
    delivered = group["last-delivered-id"].decode() if group else "0-0"
    lag = group["lag"] if group else None
    counted = len(await _unread(server, shard, delivered, COUNTED_AT_MOST)) if lag is None else lag
    pending = group["pending"] if group else 0
    parked, retry, replays, dead = counts
    return {
        "unread": counted,
        "unread_exact": lag is not None or counted < COUNTED_AT_MOST,
        "pending": pending,
        "retries": parked + retry,
        "replays": replays,
        "dead": dead,
        "paused": await read_pause_reason(GroupRef(server, shard, name)),
        "outstanding": counted + pending + parked + retry + replays,
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


async def _unread(server: Redis, shard: Shard, delivered: str, most: int) -> list[Any]:
    found: Any = await server.xrange(shard.stream, f"({delivered}", "+", count=most)
    return list(found)
