"""Counts the newest entries of some streams by cause, and reads those of one cause page by page."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from redis.asyncio import Redis

from console.queries.causes.cause import NEWEST, Causes, Words, cause_id
from console.queries.causes.newest import NewestEntries, NewestFirst
from stream.entry import EntryId
from stream.redis.cluster import at_key
from worker.replay.entry_reader import Stored

Describe = Callable[[str, Stored], tuple[Words, bool] | None]
"""Returns the words of an entry of a stream, and whether it would go through now; None if it is not selected."""


NEWS = 50
"""A page that is open learns of at most this many new entries."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Streams to read from the newest entry, or from the id ``through``, back; at most ``most`` entries of them.

    Entries of the same time are read in the order of their shards, so ``through`` is also a place among them.
    """

    keys: Sequence[tuple[int, str, str]]
    """Shard, key and name of each."""
    most: int
    through: EntryId | None = None

    def newest(self) -> NewestEntries:
        """Return an iterator over the newest entries."""
        streams = [NewestFirst(key, shard, name, self._end(shard)) for shard, key, name in self.keys]
        return NewestEntries(streams, self.most)

    def _end(self, shard: int) -> EntryId | None:
        end = self.through
        return end if end is None or shard >= end.shard else end.before()

    async def newest_keys(self, server: Redis) -> list[str]:
        """Return texts that sort like the newest NEWS entries, the newest first. Raises RedisError."""
        return [sort_key(stored.id) async for _, stored in replace(self, most=NEWS).newest().read(server)]

    def before(self, entry_id: EntryId) -> "Streams":
        """Return the same streams before this id."""
        return replace(self, through=replace(entry_id, shard=entry_id.shard + 1))


@dataclass(frozen=True, slots=True)
class Counted:
    """The causes of the newest entries: ``number`` of the ``total`` entries of the streams are counted."""

    causes: Causes
    number: int
    lengths: Sequence[int]
    """The number of all entries of each stream."""
    is_complete: bool
    through: EntryId | None
    """The newest entry that was counted."""

    @property
    def total(self) -> int:
        """The number of all entries."""
        return sum(self.lengths)


async def count_causes(server: Redis, streams: Streams, describe: Describe) -> Counted:
    """Count the newest entries by cause. Raises RedisError."""
    clock = at_key(server, streams.keys[0][1]) if streams.keys else server
    seconds, microseconds = await clock.time()
    causes = Causes(seconds * 1000 + microseconds // 1000)
    newest = streams.newest()
    through = streams.through
    async for name, stored in newest.read(server):
        through = through or stored.id
        if described := describe(name, stored):
            words, is_good = described
            causes.add(words, stored).good += is_good
    lengths = [await server.xlen(key) for _, key, _ in streams.keys]
    return Counted(causes, newest.number, lengths, newest.is_complete, through)


async def list_selected(
    server: Redis, streams: Streams, describe: Describe, *, cause: str | None = None, most: int | None = None
) -> AsyncIterator[tuple[Stored, Words, bool]]:
    """Yield at most ``most`` entries of the cause, or of all, newest first, with words and whether they are good.

    Raises RedisError.
    """
    number = 0
    async for name, stored in streams.newest().read(server):
        described = describe(name, stored)
        if described and _is_of(cause, described[0]):
            if number == most:
                return
            number += 1
            yield stored, *described


async def read_page(
    server: Redis, streams: Streams, describe: Describe, cause: str
) -> tuple[list[tuple[str, Stored]], bool]:
    """Return the newest entries of the cause with the names of their streams, and whether there may be older ones.

    Raises RedisError.
    """
    newest = streams.newest()
    page: list[tuple[str, Stored]] = []
    async for name, stored in newest.read(server):
        described = describe(name, stored)
        if described and _is_of(cause, described[0]):
            if len(page) == NEWEST:
                return page, True
            page.append((name, stored))
    return page, not newest.is_complete


def _is_of(cause: str | None, words: Words) -> bool:
    return cause is None or cause == cause_id(tuple(words.values()))


def sort_key(entry_id: EntryId) -> str:
    """Return a text that sorts like the id, over all shards."""
    return f"{entry_id.ms:020}-{entry_id.seq:020}"
