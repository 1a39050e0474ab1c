"""A row of the spool: a number, when the entry was received, a checksum, and the entry packed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from zlib import crc32

from ingest.encoding import Packed

ROW_BYTES = 64  # what a row takes beside its entry, about

Row = tuple[int, int, int, bytes]
"""As SQLite holds it. From a damaged file all but the number may be of any type."""


def size_of(entries: Sequence[Packed]) -> int:
    """Return how many bytes these take on the disk, about."""
    return sum(ROW_BYTES + len(packed) for _, packed in entries)


def rows_of(entries: Sequence[Packed], first: int) -> list[Row]:
    """Return the rows for these entries, numbered from ``first``."""
    return [(number, ms, checksum(number, packed), packed) for number, (ms, packed) in enumerate(entries, first)]


def checksum(number: int, packed: bytes) -> int:
    """Return the checksum of an entry and its place."""
    return crc32(packed, number & 0xFFFF_FFFF)


def row_received_ms(row: Row) -> int | None:
    """Return when its entry was received, if that can be told."""
    found: Any = row[1]
    return found if isinstance(found, int) else None


def length_of(row: Row) -> int:
    """Return how many bytes it takes on the disk, about."""
    found: Any = row[3]
    return ROW_BYTES + (len(found) if isinstance(found, bytes) else 0)


@dataclass(frozen=True, slots=True)
class Slice:
    """Entries that follow each other in a file."""

    entries: Sequence[bytes]
    """As they were packed."""
    last: int
    """The number up to which the file was read."""
    received_ms: int | None
    """Of the last entry."""
    bytes: int
    damaged: int
    """Entries in between that are not what was put, and are left out."""

    @classmethod
    def of(cls, rows: Sequence[Row], confirmed: int, last: int) -> Self:
        """Take the rows, at least one, that were found between the number ``confirmed`` and ``last``, inclusive."""
        sound: list[bytes] = [row[3] for row in rows if is_sound(row)]
        size = sum(ROW_BYTES + len(one) for one in sound)
        return cls(sound, last, row_received_ms(rows[-1]), size, last - confirmed - len(sound))


def is_sound(row: Row) -> bool:
    """Whether an entry is what was put under this number."""
    packed: Any = row[3]
    return isinstance(packed, bytes) and checksum(row[0], packed) == row[2]
