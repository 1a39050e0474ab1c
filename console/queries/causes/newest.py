"""Reads the newest entries of several streams, merged by id, and at most a stated number and size of them."""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import Any

from redis.asyncio import Redis

from stream.entry import EntryId
from worker.replay.entry_reader import Stored
from worker.retention.pages import FIRST_PAGE_ENTRIES, PAGE_ENTRIES, next_page_size

BYTES_AT_MOST = 64 * 1024 * 1024


@dataclass(slots=True)
class NewestFirst:
    """One stream, read from its newest entry, or from ``end``, to its oldest. ``name`` is the group, or empty."""

    key: str
    shard: int
    name: str = ""
    end: EntryId | None = None
    page: deque[Stored] = field(default_factory=deque)
    is_at_start: bool = False
    entries: int = 0
    size: int = 0

    async def peek(self, server: Redis) -> Stored | None:
        """Return the newest entry that is not taken; None at the start of the stream. Raises RedisError."""
        if not self.page and not self.is_at_start:
            count = next_page_size(self.entries, self.size) if self.entries else FIRST_PAGE_ENTRIES
            greatest = self.end.redis if self.end else "+"
            reply: Any = await server.xrevrange(self.key, max=greatest, count=count)
            self.page.extend(Stored(EntryId.from_redis(self.shard, entry_id), fields) for entry_id, fields in reply)
            self.entries += len(reply)
            self.size += sum(stored.size for stored in self.page)
            self.is_at_start = len(reply) < count
            if self.page:
                self.end = self.page[-1].id.before()
        return self.page[0] if self.page else None


class NewestEntries:
    """The newest entries of the streams: at most ``most`` entries and about BYTES_AT_MOST bytes.

    After ``read``, ``number`` is the number of entries, and ``is_complete`` is whether they were all.
    """

    def __init__(self, streams: Sequence[NewestFirst], most: int) -> None:
        self._streams = streams
        self._most = most
        self.number = 0
        self.is_complete = False

    async def read(self, server: Redis) -> AsyncIterator[tuple[str, Stored]]:
        """Yield the name of the stream and the entry, newest first. Raises RedisError."""
        first = [await stream.peek(server) for stream in self._streams]
        heads = [(_age(stored), place) for place, stored in enumerate(first) if stored]
        heapify(heads)
        while heads and self.number < self._most and (self.number % PAGE_ENTRIES or self._size < BYTES_AT_MOST):
            place = heads[0][1]
            stored = self._streams[place].page.popleft()
            self.number += 1
            yield self._streams[place].name, stored
            if following := await self._streams[place].peek(server):
                heapreplace(heads, (_age(following), place))
            else:
                heappop(heads)
        self.is_complete = not heads

    @property
    def _size(self) -> int:
        """The bytes of all entries that were read, also of those that are not taken yet."""
        return sum(stream.size for stream in self._streams)


def _age(stored: Stored) -> tuple[int, int]:
    """Order entries of several shards, the newest first."""
    return -stored.id.ms, -stored.id.seq
