"""Reading a stream raw and in pages, each of a bounded size."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from stream.redis.client import keep_raw

FIRST_PAGE_ENTRIES = 16
PAGE_ENTRIES = 250
PAGE_BYTES = 1024 * 1024

RawEntry = tuple[bytes, Sequence[bytes]]
"""An entry as the server gives it: its id, then names and values in turn, in their order and with repetitions."""


def raw_ranges(server: Redis) -> Redis:
    """Make a client give XRANGE's replies as they are: a dictionary would drop a name that an entry has twice."""
    keep_raw(server, "XRANGE")
    return server


async def read_page(server: Redis, stream: str, after: str, before: str, count: int) -> list[RawEntry]:
    """Return the first entries between these ids, which are not among them. Raises RedisError."""
    page: Any = await server.xrange(stream, f"({after}" if after else "-", f"({before}", count=count)
    return list(page)


def next_page_size(entries: int, size: int) -> int:
    """Return how many entries the next page may have, if they are like those before, which came to so many bytes."""
    return min(PAGE_ENTRIES, max(1, PAGE_BYTES * entries // max(size, 1)))
