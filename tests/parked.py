"""Looking at what is parked."""

from collections.abc import Iterator
from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard


async def parked(server: Redis, shard: Shard, group: str) -> list[tuple[dict[bytes, bytes], float]]:
    """The group's parked copies, each with the seconds until it is due, by the server's clock."""
    seconds, microseconds = await server.time()
    members: Any = await server.zrange(shard.parked(group), 0, -1, withscores=True)
    return [(unpacked(copy), due / 1000 - seconds - microseconds / 1e6) for copy, due in members]


def unpacked(copy: bytes) -> dict[bytes, bytes]:
    """The fields of a packed copy: an array of texts in MessagePack, both with lengths of four bytes."""
    parts = list(_parts(copy[5:]))
    assert (copy[:1], len(parts)) == (b"\xdd", int.from_bytes(copy[1:5]))
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _parts(rest: bytes) -> Iterator[bytes]:
    while rest:
        assert rest[:1] == b"\xdb"
        end = 5 + int.from_bytes(rest[1:5])
        yield rest[5:end]
        rest = rest[end:]
