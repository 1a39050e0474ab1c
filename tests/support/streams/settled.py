"""Payloads in a stream, and whether the groups of the stream have settled them."""

from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.samples.events import entry


async def append_payloads(server: Redis, shard: Shard, *payloads: bytes) -> None:
    """Append an entry for each payload."""
    for payload in payloads:
        fields: Any = entry(payload).to_fields()
        await server.xadd(shard.stream, fields)


async def is_settled(server: Redis, shard: Shard, *names: str) -> bool:
    """Whether these groups exist, have read all entries and have none pending."""
    if not await server.exists(shard.stream):  # the first webhook waits in the spool
        return False
    groups: Any = await server.xinfo_groups(shard.stream)
    states = {group["name"].decode(): (group["pending"], group["lag"]) for group in groups}
    return all(states.get(name) == (0, 0) for name in names)
