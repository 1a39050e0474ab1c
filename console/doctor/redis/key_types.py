"""Finds the keys of the stream that hold another type than Ackstream gives them. Redis's error WRONGTYPE names none."""

from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from runtime.escape import escape_unprintable
from stream.keys import Shard
from stream.layout import read_layout
from stream.settings import StreamSettings
from worker.group.consumer_group import read_group_names

TYPES: Mapping[str, Sequence[str]] = {
    "stream": ("stream", "invalid", "quarantine", "retry", "replay", "history", "dead"),
    "set": ("groups",),
    "string": ("server_id", "layout", "trimmer", "checkpoint", "succeeded", "owner"),
    "hash": ("removed", "invalid_totals", "quarantine_index", "alive", "replays", "paused", "poison"),
    "zset": ("invalid_ids", "delayed", "handled"),
}
"""The names of the keys in ``stream.keys``, by their type in the words of Redis."""


async def name_wrong_keys(server: Redis, settings: StreamSettings) -> str:
    """Return the keys of another type on all shards in words; "WRONGTYPE" if there are none. Raises RedisError."""
    try:
        shards = (await read_layout(server, settings)).shards(settings.stream)
    except ResponseError:  # the key of the layout is one of them
        shards = [settings.shard]
    return ", ".join([words for shard in shards if (words := await _describe_shard(server, shard))]) or "WRONGTYPE"


async def _describe_shard(server: Redis, shard: Shard) -> str:
    try:
        groups = await read_group_names(server, shard)
    except ResponseError:  # the key of the groups is one of them
        groups = []
    wanted: dict[str, str] = {}
    for kind, names in TYPES.items():
        for name in names:
            key: Any = getattr(shard, name)
            wanted |= {key: kind} if isinstance(key, str) else {key(group): kind for group in groups}
    async with server.pipeline(transaction=False) as pipe:
        for key in wanted:
            pipe.type(key)
        types = [reply.decode() for reply in await pipe.execute()]
    return ", ".join(
        f"{escape_unprintable(key)} is a {kind}, not a {wanted[key]}"
        for key, kind in zip(wanted, types, strict=True)
        if kind not in {"none", wanted[key]}
    )
