"""Reads entries from the leaf pages of a SQLite file whose B-tree is damaged. A leaf can be read without other pages.

https://www.sqlite.org/fileformat.html#b_tree_pages describes the layout of a leaf page. Pages of the write-ahead log
are read like those of the file. Each entry is checked by its checksum, which covers its number.
"""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from ingest.spool.database import PAGE_BYTES
from ingest.spool.errors import translate_errors
from ingest.spool.record import Row, is_sound

LEAF = 13
_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_MOST_LOCAL = PAGE_BYTES - 35
_LEAST_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_COLUMNS = 4


class Pages:
    """The leaf pages of a file and its log that hold entries, sorted by the first number of each."""

    def __init__(self, file: Path, log: Path) -> None:
        self._sources = [
            (memoryview(path.read_bytes() if path.exists() else b""), first, step)
            for path, first, step in (
                (file, 0, PAGE_BYTES),
                (log, _LOG_HEADER_BYTES + _FRAME_HEADER_BYTES, PAGE_BYTES + _FRAME_HEADER_BYTES),
            )
        ]
        logged, first, step = self._sources[1]
        self._logged = {
            int.from_bytes(logged[at - _FRAME_HEADER_BYTES :][:4]): logged[at : at + PAGE_BYTES]
            for at in range(first, len(logged), step)
        }
        leaves = [
            (rows[0][0], rows[-1][0], page)
            for content, first, step in self._sources
            for at in range(first, len(content), step)
            if (rows := self._rows_of(page := content[at : at + PAGE_BYTES]))
        ]
        leaves.sort(key=lambda leaf: leaf[0])
        self._numbers = [number for number, _, _ in leaves]
        self._pages = [page for _, _, page in leaves]
        self.last = max((last for _, last, _ in leaves), default=0)
        """The greatest number."""

    @classmethod
    def read(cls, file: Path, log: Path) -> Self:
        """Read all pages. Raises SpoolFault if the disk fails."""
        with translate_errors():
            return cls(file, log)

    def rows_after(self, number: int) -> list[Row]:
        """Return the next readable entries after this number, in order, from one page."""
        place = max(0, bisect_right(self._numbers, number + 1) - 1)
        for page in self._pages[place:]:
            if rows := [row for row in self._rows_of(page) if row[0] > number]:
                return rows
        return []

    def _rows_of(self, page: memoryview) -> list[Row]:
        """Return the sound entries of a page in order, or an empty list for a page that is not a leaf."""
        if len(page) < PAGE_BYTES or page[0] != LEAF:
            return []
        rows = []
        for cell in range(int.from_bytes(page[3:5])):
            with suppress(IndexError, ValueError, KeyError):
                row = self._row_at(page, int.from_bytes(page[8 + 2 * cell : 10 + 2 * cell]))
                if is_sound(row):
                    rows.append(row)
        return sorted(rows)

    def _row_at(self, page: memoryview, at: int) -> Row:
        size, at = _varint(page, at)
        number, at = _varint(page, at)
        local = size
        if size > _MOST_LOCAL:
            local = _LEAST_LOCAL + (size - _LEAST_LOCAL) % (PAGE_BYTES - 4)
            local = local if local <= _MOST_LOCAL else _LEAST_LOCAL
        record = bytes(page[at : at + local])
        if local < size:
            overflow = int.from_bytes(page[at + local : at + local + 4])
            record += b"".join(self._overflow(overflow, size - local))
        header_bytes, place = _varint(record, 0)
        types = []
        while place < header_bytes:
            kind, place = _varint(record, place)
            types.append(kind)
        if len(types) != _COLUMNS or types[0] != 0:
            raise ValueError
        received_ms, place = _integer(record, place, types[1])
        checksum, place = _integer(record, place, types[2])
        return number, received_ms, checksum, record[place : place + (types[3] - 12) // 2]

    def _overflow(self, page_number: int, size: int) -> Iterator[memoryview]:
        content = self._sources[0][0]
        while size > 0 and page_number:
            at = (page_number - 1) * PAGE_BYTES
            page = self._logged.get(page_number) or content[at : at + PAGE_BYTES]
            yield page[4 : 4 + size]
            size -= PAGE_BYTES - 4
            page_number = int.from_bytes(page[:4])


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Decode SQLite's variable-length integer at this offset; return it and its end. Raises IndexError."""
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, place + 1
    return value << 8 | data[at + 8], at + 9


def _integer(data: bytes, at: int, kind: int) -> tuple[int, int]:
    """Decode an integer column; return it and its end. Raises KeyError if the column has another type."""
    if kind in (8, 9):
        return kind - 8, at
    size = _INTEGER_BYTES[kind]
    return int.from_bytes(data[at : at + size], signed=True), at + size
