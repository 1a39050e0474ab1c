"""Reads how far each group is with the live entries of a message: unread, in flight or settled.

The position of a group proves that an entry is settled, not that it was handled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream.entry import EntryId
from stream.keys import Shard


class LiveState(StrEnum):
    """The state of a live entry in a group."""

    UNREAD = "unread"
    IN_FLIGHT = "in flight"
    SETTLED = "settled"
    MISSING = "missing"
    """The entry was removed from the stream before the group read it."""


@dataclass(frozen=True, slots=True)
class LiveEntry:
    """A live entry in one group. ``idle_ms`` and ``deliveries`` are those of an entry in flight, else 0."""

    state: LiveState
    idle_ms: int = 0
    deliveries: int = 0


async def read_entries(server: Redis, shard: Shard, ids: Sequence[EntryId]) -> dict[EntryId, Mapping[bytes, bytes]]:
    """Return the fields of those entries that the stream still has. Raises RedisError."""
    async with server.pipeline(transaction=False) as pipe:
        for entry_id in ids:
            pipe.xrange(shard.stream, entry_id.redis, entry_id.redis)
        replies: Any = await pipe.execute()
    return {entry_id: reply[0][1] for entry_id, reply in zip(ids, replies, strict=True) if reply}


async def read_live_states(
    server: Redis, shard: Shard, groups: Sequence[str], entries: Mapping[EntryId, bool]
) -> dict[tuple[str, EntryId], LiveEntry]:
    """Return the state of each entry in each group. ``entries`` says which of them the stream still has.

    Raises RedisError.
    """
    positions = await _read_positions(server, shard)
    reached = [(name, entry_id) for name in groups for entry_id in entries if positions.get(name, "0-0") != "0-0"]
    reached = [(name, entry_id) for name, entry_id in reached if entry_id <= _parse(shard, positions[name])]
    async with server.pipeline(transaction=False) as pipe:
        for name, entry_id in reached:
            pipe.xpending_range(shard.stream, name, entry_id.redis, entry_id.redis, 1)
        replies: Any = await pipe.execute()
    states = {
        (name, entry_id): LiveEntry(LiveState.UNREAD if stored else LiveState.MISSING)
        for name in groups
        for entry_id, stored in entries.items()
    }
    for key, reply in zip(reached, replies, strict=True):
        states[key] = LiveEntry(LiveState.SETTLED)
        if reply:
            pending = reply[0]
            states[key] = LiveEntry(LiveState.IN_FLIGHT, pending["time_since_delivered"], pending["times_delivered"])
    return states


async def find_oldest_unsettled(server: Redis, shard: Shard, groups: Sequence[str]) -> EntryId:
    """Return the first entry that one of the groups may not have settled. Raises RedisError."""
    positions = {name: at for name, at in (await _read_positions(server, shard)).items() if name in groups}
    async with server.pipeline(transaction=False) as pipe:
        for name in positions:
            pipe.xpending(shard.stream, name)
        replies: Any = await pipe.execute()
    unread = [_parse(shard, position).after() for position in positions.values()]
    pending = [_parse(shard, reply["min"]) for reply in replies if reply["min"] is not None]
    start = EntryId(shard.number, 0, 0)  # a group that does not exist yet starts at the first entry
    return min([*unread, *pending], default=start) if len(positions) == len(groups) else start


async def _read_positions(server: Redis, shard: Shard) -> dict[str, str]:
    try:
        groups: Any = await server.xinfo_groups(shard.stream)
    except ResponseError:  # the stream does not exist yet
        return {}
    return {group["name"].decode(errors="backslashreplace"): group["last-delivered-id"].decode() for group in groups}


def _parse(shard: Shard, position: bytes | str) -> EntryId:
    return EntryId.from_redis(shard.number, position)
