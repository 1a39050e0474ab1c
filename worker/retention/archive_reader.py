"""The archive: what is trimmed from the stream, in compressed files with one index.

A file holds a run of a stream's entries, each as the command that appended it, in Redis's own protocol, gzipped: bit
for bit what stood on the stream, and ``zcat FILE | redis-cli --pipe`` puts it back. (gzip, for every machine reads it;
at its lightest level one core packs more entries a second than ever come in.)

The index, ``index.jsonl``, has a line for each file, written once the file is on the disk for good. What is not in the
index does not count: a file that a crash cut off, or that was whole but not yet entered, holds only entries that are
still on the stream. So a crash may put entries into two files, never into none; ``read`` yields each once.
"""

import gzip
import heapq
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import hiredis
import orjson

from stream.entry import EntryId

INDEX = "index.jsonl"
CHUNK_BYTES = 64 * 1024


class ArchiveDamaged(Exception):  # noqa: N818 - named for what it is, like InvalidEntry
    """A file that the index names is not there or not whole; the text names it."""


@dataclass(frozen=True, slots=True)
class IndexLine:
    """What the index says of a file. Ids are in Redis's form; ``size`` is in bytes, before compression."""

    file: str
    stream: str
    shard: int
    first: str
    last: str
    entries: int
    size: int
    received_ms: tuple[int, int] | None
    """The least and the greatest of its entries'; None where none has one."""

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Take a line of the index. Raises ValueError or TypeError for anything else."""
        found = orjson.loads(text)
        received = found["received_ms"]
        return cls(**{**found, "received_ms": None if received is None else (received[0], received[1])})

    def span(self) -> tuple[EntryId, EntryId]:
        """Return its first and its last entry."""
        return EntryId.from_redis(self.shard, self.first), EntryId.from_redis(self.shard, self.last)


@dataclass(frozen=True, slots=True)
class ArchivedEntry:
    """An entry out of the archive. ``flat`` is all that it had: names and values in turn."""

    id: EntryId
    flat: tuple[bytes, ...]

    @property
    def fields(self) -> dict[bytes, bytes]:
        """The entry as XRANGE of a client gives it."""
        return dict(zip(self.flat[::2], self.flat[1::2], strict=True))


def read(
    folder: Path,
    stream: str,
    *,
    since: EntryId | None = None,
    until: EntryId | None = None,
    received_ms: tuple[int, int] | None = None,
) -> Iterator[ArchivedEntry]:
    """Yield the stream's archived entries in the order of their ids, each once, from ``since`` to ``until`` inclusive.

    ``received_ms`` leaves out files that hold nothing received in this span; what the others hold is yielded whole.
    A file that is left out may be damaged: only what is asked for has to be readable. It holds no more than a chunk of
    each file that it reads at a time. Raises ArchiveDamaged.
    """
    lines = sorted((line for line in _index(folder) if line.stream == stream), key=IndexLine.span)
    run: list[IndexLine] = []  # files that overlap
    reached: EntryId | None = None
    for line in lines:
        first, last = line.span()
        if (since and last < since) or (until and until < first) or not _received_within(line, received_ms):
            continue
        if run and reached is not None and reached < first:
            yield from _merged(folder, run, since, until)
            run = []
        run.append(line)
        reached = max(last, reached or last)
    yield from _merged(folder, run, since, until)


def _merged(
    folder: Path, run: Sequence[IndexLine], since: EntryId | None, until: EntryId | None
) -> Iterator[ArchivedEntry]:
    """Yield what is in these files, which overlap where a crash had the same entries archived again."""
    same: list[ArchivedEntry] = []
    for entry in heapq.merge(*(_entries(folder, line) for line in run), key=lambda entry: entry.id):
        if (since and entry.id < since) or (until and until < entry.id):
            continue
        if same and same[0].id != entry.id:
            same.clear()
        if entry not in same:  # a stream that was deleted and begun again may have used an id twice
            same.append(entry)
            yield entry


def _entries(folder: Path, line: IndexLine) -> Iterator[ArchivedEntry]:
    path, reader, count = folder / line.file, hiredis.Reader(), 0
    try:
        with gzip.open(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                reader.feed(chunk)
                while (command := reader.gets()) is not False:
                    count += 1
                    _, _, entry_id, *flat = command
                    yield ArchivedEntry(EntryId.from_redis(line.shard, entry_id), tuple(flat))
    except (OSError, EOFError, ValueError, TypeError, zlib.error, hiredis.ProtocolError) as exc:
        raise ArchiveDamaged(f"{path} cannot be read ({type(exc).__name__})") from exc
    if count != line.entries:
        raise ArchiveDamaged(f"{path} holds {count} entries, its index says {line.entries}")


def _index(folder: Path) -> Iterator[IndexLine]:
    try:
        with (folder / INDEX).open("rb") as index:
            for text in index:
                with suppress(ValueError, TypeError, KeyError):  # cut off by a crash: its file was not used
                    yield IndexLine.from_json(text)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise ArchiveDamaged(f"{folder / INDEX} cannot be read ({exc.strerror})") from exc


def _received_within(line: IndexLine, span: tuple[int, int] | None) -> bool:
    if span is None:
        return True
    return line.received_ms is not None and line.received_ms[0] <= span[1] and span[0] <= line.received_ms[1]
