"""Reads a stream in pages of raw entries; the size of a page is limited."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from stream.redis.client import keep_raw

FIRST_PAGE_ENTRIES = 16
PAGE_ENTRIES = 250
PAGE_BYTES = 1024 * 1024

RawEntry = tuple[bytes, Sequence[bytes]]
"""An entry as the server returns it: its id, and names and values in turn, in order and with repeated names."""


def raw_ranges(server: Redis) -> Redis:
    """Make XRANGE of a client return raw replies, because a dictionary drops repeated names of an entry."""
    keep_raw(server, "XRANGE")
    return server


async def read_page(server: Redis, stream: str, after: str, before: str, count: int) -> list[RawEntry]:
    """Return the first entries between two ids, without the entries of these ids. Raises RedisError."""
    page: Any = await server.xrange(stream, f"({after}" if after else "-", f"({before}", count=count)
    return list(page)


def next_page_size(entries: int, size: int) -> int:
    """Return how many entries the next page may have, from the count and size in bytes of the entries before."""
    return min(PAGE_ENTRIES, max(1, PAGE_BYTES * entries // max(size, 1)))
