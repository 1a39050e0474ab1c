"""Reading stored entries in pages of a bounded size: of a stream, or of the archive and then of the stream.

What is trimmed goes to the archive first, so the same entry may be in both. Who gives the stream's first entry as the
boundary, and keeps what is on the stream from then on, reads each once.
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
    """An entry as it is stored, whatever it holds."""

    id: EntryId
    fields: Mapping[bytes, bytes]

    @property
    def size(self) -> int:
        """The bytes of its names and values."""
        return sum(len(name) + len(value) for name, value in self.fields.items())


Page = list[Stored]
Pages = AsyncGenerator[Page, None]


@dataclass(frozen=True, slots=True)
class Span:
    """Entries after ``begin`` up to ``end``."""

    begin: EntryId
    end: EntryId

    @classmethod
    def whole(cls, shard: int) -> "Span":
        """Return the span of all entries."""
        return cls(EntryId(shard, 0, 0), EntryId(shard, GREATEST_MS, GREATEST_SEQ))

    @classmethod
    def of(cls, shard: int, ids: Sequence[str]) -> "Span":
        """Return the span of these entries, which are written as people see them; of all if there are none."""
        if not ids:
            return cls.whole(shard)
        whole = cls.whole(shard)
        here = [
            one for one in map(EntryId.from_text, ids) if whole.begin < one <= whole.end and one.seq <= GREATEST_SEQ
        ]
        return cls(min(here).before(), max(here)) if here else cls(whole.begin, whole.begin)


async def read_stream(server: Redis, key: str, span: Span) -> Pages:
    """Yield what is on this stream. Raises RedisError."""
    after, count, entries, size = span.begin, FIRST_PAGE_ENTRIES, 0, 0
    while after < span.end:
        found: Any = await server.xrange(key, f"({after.redis}", span.end.redis, count=count)
        if not found:
            return
        page = [Stored(EntryId.from_redis(after.shard, entry_id), fields) for entry_id, fields in found]
        yield page
        after, entries, size = page[-1].id, entries + len(page), size + sum(one.size for one in page)
        count = next_page_size(entries, size)


async def read_archive(
    folder: Path, stream: str, span: Span, boundary: EntryId | None, received_ms: tuple[int, int] | None
) -> Pages:
    """Yield what is archived of this stream before the boundary; read in a thread. Raises ArchiveDamaged.

    Files that hold nothing received in ``received_ms`` are not opened. An id that was used for several entries has all
    of them in one page.
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
    """Yield what is archived before the boundary, the stream's first entry, and then what is on the stream."""
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
