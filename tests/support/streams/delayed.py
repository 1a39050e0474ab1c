"""Reads delayed retries."""

from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard


async def read_delayed(server: Redis, shard: Shard, group: str) -> list[tuple[dict[bytes, bytes], float]]:
    """Return the delayed retries of the group, each with the seconds until it is due by the clock of the server."""
    seconds, microseconds = await server.time()
    members: Any = await server.zrange(shard.delayed(group), 0, -1, withscores=True)
    return [(await _unpack(server, copy), due / 1000 - seconds - microseconds / 1e6) for copy, due in members]


async def _unpack(server: Redis, copy: bytes) -> dict[bytes, bytes]:
    asked: Any = server.eval("return cmsgpack.unpack(ARGV[1])", 0, copy)
    parts: list[bytes] = await asked
    return dict(zip(parts[::2], parts[1::2], strict=True))
