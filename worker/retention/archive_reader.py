"""Reads the archive: trimmed entries in compressed files with one index.

A file contains a range of entries of a stream, each as its XADD command in the protocol of Redis, compressed with gzip.
``zcat FILE | redis-cli --pipe`` restores the entries bit for bit. Every machine can read gzip, and at its lowest level
one core compresses more entries a second than ingest receives.

The index, ``index.jsonl``, has a line for each file. The writer adds it after it has fsynced the file. A file without a
line is ignored: after a crash it contains only entries that are still on the stream. So a crash can put entries into
two files, but never drops them, and ``read`` yields each entry once.

When entries are erased (worker.retention.archive_eraser), the index gets another line for the file, before the file is
replaced. So a file may have as many entries as any of its lines says; a last line with no entries removes it.
"""

import gzip
import heapq
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import hiredis
import orjson

from stream.entry import EntryId

INDEX = "index.jsonl"
CHUNK_BYTES = 64 * 1024


class ArchiveDamaged(Exception):  # noqa: N818 - named like InvalidEntry
    """A file of the index is missing or damaged, or the whole folder is missing; the text names it."""


@dataclass(frozen=True, slots=True)
class IndexLine:
    """One file in the index. Ids are in the form of Redis; ``size`` is in bytes before compression."""

    file: str
    stream: str
    shard: int
    first: str
    last: str
    entries: int
    size: int
    received_ms: tuple[int, int] | None
    """The earliest and latest time of receipt of its entries; None if they have no such time."""
    counts: frozenset[int] = frozenset()
    """How many entries the file may have, by all of its lines."""

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Parse a line of the index. Raises ValueError, TypeError or KeyError if it is not one."""
        values = orjson.loads(text)
        received = values["received_ms"]
        values["received_ms"] = None if received is None else (received[0], received[1])
        return cls(**values, counts=frozenset((values["entries"],)))

    def to_json(self) -> bytes:
        """Encode the line. ``from_json`` makes an equal one from it."""
        return orjson.dumps({name: getattr(self, name) for name in self.__slots__ if name != "counts"})

    def span(self) -> tuple[EntryId, EntryId]:
        """Return the ids of the first and the last entry."""
        return EntryId.from_redis(self.shard, self.first), EntryId.from_redis(self.shard, self.last)


@dataclass(frozen=True, slots=True)
class ArchivedEntry:
    """An entry of the archive. ``flat`` has the names and values of its fields in turn."""

    id: EntryId
    flat: tuple[bytes, ...]

    @property
    def fields(self) -> dict[bytes, bytes]:
        """The fields, as XRANGE of a client returns them."""
        return dict(zip(self.flat[::2], self.flat[1::2], strict=True))


def read(
    folder: Path,
    stream: str,
    *,
    since: EntryId | None = None,
    until: EntryId | None = None,
    received_ms: tuple[int, int] | None = None,
) -> Iterator[ArchivedEntry]:
    """Yield the archived entries of the stream from ``since`` to ``until`` inclusive, each once, ordered by id.

    ``received_ms`` skips files without an entry received in this span; all entries of the other files are yielded. A
    skipped file may be damaged. Memory has at most one chunk of each open file. Raises ArchiveDamaged.
    """
    lines = sorted((line for line in read_index(folder) if line.stream == stream), key=IndexLine.span)
    run: list[IndexLine] = []  # overlapping files
    run_end: EntryId | None = None
    for line in lines:
        first, last = line.span()
        if (since and last < since) or (until and until < first) or not _overlaps(line, received_ms):
            continue
        if run and run_end is not None and run_end < first:
            yield from _merge(folder, run, since, until)
            run = []
        run.append(line)
        run_end = max(last, run_end or last)
    yield from _merge(folder, run, since, until)


def _merge(
    folder: Path, run: Sequence[IndexLine], since: EntryId | None, until: EntryId | None
) -> Iterator[ArchivedEntry]:
    """Yield the entries of files that overlap, because after a crash the same entries were archived again."""
    equal_ids: list[ArchivedEntry] = []
    for entry in heapq.merge(*(_read_line(folder, line) for line in run), key=lambda entry: entry.id):
        if (since and entry.id < since) or (until and until < entry.id):
            continue
        if equal_ids and equal_ids[0].id != entry.id:
            equal_ids.clear()
        if entry not in equal_ids:  # a stream that was deleted and created again may have used an id twice
            equal_ids.append(entry)
            yield entry


def _read_line(folder: Path, line: IndexLine) -> Iterator[ArchivedEntry]:
    count = 0
    for _, entry in read_file(folder / line.file, line.shard):
        count += 1
        yield entry
    if count not in line.counts:
        raise ArchiveDamaged(f"{folder / line.file} has {count} entries, but {line.entries} in the index")


def read_file(path: Path, shard: int) -> Iterator[tuple[str, ArchivedEntry]]:
    """Yield the entries of a file with the names of their streams. Raises ArchiveDamaged."""
    reader = hiredis.Reader()
    try:
        with gzip.open(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                reader.feed(chunk)
                while (command := reader.gets()) is not False:
                    _, stream, entry_id, *flat = command
                    yield stream.decode(), ArchivedEntry(EntryId.from_redis(shard, entry_id), tuple(flat))
    except (OSError, EOFError, ValueError, TypeError, zlib.error, hiredis.ProtocolError) as exc:
        raise ArchiveDamaged(f"{path} cannot be read ({type(exc).__name__})") from exc


def read_index(folder: Path) -> list[IndexLine]:
    """Return the last line of each file that is part of the archive. Raises ArchiveDamaged."""
    lines: dict[str, IndexLine] = {}
    for line in _lines(folder):
        before = lines.get(line.file)
        lines[line.file] = replace(line, counts=line.counts | before.counts) if before else line
    return [line for line in lines.values() if line.entries]


def _lines(folder: Path) -> Iterator[IndexLine]:
    try:
        with (folder / INDEX).open("rb") as index:
            for text in index:
                with suppress(ValueError, TypeError, KeyError):  # a crash cut the line off, so its file does not count
                    yield IndexLine.from_json(text)
    except FileNotFoundError:
        if not folder.is_dir():
            raise ArchiveDamaged(
                f"the folder {folder} does not exist here: mount it, or correct ACKSTREAM_ARCHIVE"
            ) from None
    except OSError as exc:
        raise ArchiveDamaged(f"{folder / INDEX} cannot be read ({exc.strerror})") from exc


def _overlaps(line: IndexLine, span: tuple[int, int] | None) -> bool:
    if span is None:
        return True
    return line.received_ms is not None and line.received_ms[0] <= span[1] and span[0] <= line.received_ms[1]
