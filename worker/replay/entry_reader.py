"""Reads stored entries in pages of limited size, from a stream or from the archive and then the stream.

The trimmer writes entries to the archive before it removes them, so an entry may be in both. A caller that passes the
first entry of the stream as the boundary, and prevents trimming from then on, reads each entry once.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from stream.entry import GREATEST_SEQ, EntryId
from worker.retention import archive_reader as archive
from worker.retention.pages import FIRST_PAGE_ENTRIES, PAGE_BYTES, PAGE_ENTRIES, next_page_size

GREATEST_MS = GREATEST_SEQ


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored entry, with any fields."""

    id: EntryId
    fields: Mapping[bytes, bytes]

    @property
    def size(self) -> int:
        """The bytes of its names and values."""
        return sum(map(len, self.fields)) + sum(map(len, self.fields.values()))


Page = list[Stored]
Pages = AsyncGenerator[Page, None]


@dataclass(frozen=True, slots=True)
class Span:
    """The entries after ``begin`` up to and including ``end``."""

    begin: EntryId
    end: EntryId

    @classmethod
    def full(cls, shard: int) -> "Span":
        """Return the span of all entries."""
        return cls(EntryId(shard, 0, 0), EntryId(shard, GREATEST_MS, GREATEST_SEQ))

    @classmethod
    def from_ids(cls, shard: int, ids: Sequence[str]) -> "Span":
        """Return the span from the first to the last of these ids (``shard/ms-seq``); of all entries without ids."""
        if not ids:
            return cls.full(shard)
        span = cls.full(shard)
        entry_ids = [
            entry_id
            for entry_id in map(EntryId.from_text, ids)
            if span.begin < entry_id <= span.end and entry_id.seq <= GREATEST_SEQ
        ]
        return cls(min(entry_ids).before(), max(entry_ids)) if entry_ids else cls(span.begin, span.begin)


async def read_stream(server: Redis, key: str, span: Span, ids: Sequence[str] = ()) -> Pages:
    """Yield the entries of a stream; only those with these ids if there are any. Raises RedisError."""
    if ids:
        async for page in _read_ids(server, key, span, ids):
            yield page
        return
    after, count, entries, size = span.begin, FIRST_PAGE_ENTRIES, 0, 0
    while after < span.end:
        reply: Any = await server.xrange(key, f"({after.redis}", span.end.redis, count=count)
        if not reply:
            return
        page = [Stored(EntryId.from_redis(after.shard, entry_id), fields) for entry_id, fields in reply]
        yield page
        after, entries, size = page[-1].id, entries + len(page), size + sum(entry.size for entry in page)
        count = next_page_size(entries, size)


async def _read_ids(server: Redis, key: str, span: Span, ids: Sequence[str]) -> Pages:
    """Read single entries: between the first and the last status of one message there can be millions of others."""
    chosen = sorted(entry_id for entry_id in map(EntryId.from_text, ids) if span.begin < entry_id <= span.end)
    for start in range(0, len(chosen), FIRST_PAGE_ENTRIES):
        async with server.pipeline(transaction=False) as pipe:
            for entry_id in chosen[start : start + FIRST_PAGE_ENTRIES]:
                pipe.xrange(key, entry_id.redis, entry_id.redis)
            replies: Any = await pipe.execute()
        if page := [
            Stored(EntryId.from_redis(span.begin.shard, entry_id), fields)
            for reply in replies
            for entry_id, fields in reply
        ]:
            yield page


async def read_archive(
    folder: Path, stream: str, span: Span, boundary: EntryId | None, received_ms: tuple[int, int] | None
) -> Pages:
    """Yield the archived entries of a stream before the boundary, read in a thread. Raises ArchiveDamaged.

    Files without an entry received in ``received_ms`` are not opened. All entries with the same id are in one page.
    """
    until = span.end if boundary is None else min(span.end, boundary.before())
    if until <= span.begin:
        return
    entries = archive.read(folder, stream, since=span.begin.after(), until=until, received_ms=received_ms)
    pages = _pages(entries)
    while page := await asyncio.to_thread(next, pages, None):
        yield page


async def read_archive_and_stream(
    server: Redis,
    key: str,
    folder: Path,
    span: Span,
    boundary: EntryId | None,
    received_ms: tuple[int, int] | None,
) -> Pages:
    """Yield the archived entries before the boundary, the first entry of the stream, and then those of the stream."""
    async for page in read_archive(folder, key, span, boundary, received_ms):
        yield page
    if boundary is not None:
        async for page in read_stream(server, key, span):
            yield page


def _pages(entries: Iterator[archive.ArchivedEntry]) -> Iterator[Page]:
    page: Page = []
    size = 0
    for entry in entries:
        if (len(page) >= PAGE_ENTRIES or size >= PAGE_BYTES) and page[-1].id != entry.id:
            yield page
            page, size = [], 0
        page.append(Stored(entry.id, entry.fields))
        size += page[-1].size
    if page:
        yield page
