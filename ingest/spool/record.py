"""A row of the spool: a number, the entry's receive time, a checksum, and the packed entry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from zlib import crc32

from ingest.encoding import Packed

ROW_BYTES = 64  # approximate overhead of a row

Row = tuple[int, int, int, bytes]
"""A row as SQLite returns it. In a damaged file all columns except the number may have any type."""


def entries_bytes(entries: Sequence[Packed]) -> int:
    """Return the approximate size of these entries on the disk."""
    return sum(ROW_BYTES + len(packed) for _, packed in entries)


def make_rows(entries: Sequence[Packed], first: int) -> list[Row]:
    """Return the rows for these entries, numbered from ``first``."""
    return [(number, ms, checksum(number, packed), packed) for number, (ms, packed) in enumerate(entries, first)]


def checksum(number: int, packed: bytes) -> int:
    """Return the checksum of an entry and its number."""
    return crc32(packed, number & 0xFFFF_FFFF)


def row_received_ms(row: Row) -> int | None:
    """Return the receive time of the row's entry, or None if it is damaged."""
    received_ms: Any = row[1]
    return received_ms if isinstance(received_ms, int) else None


def row_bytes(row: Row) -> int:
    """Return the approximate size of a row on the disk."""
    packed: Any = row[3]
    return ROW_BYTES + (len(packed) if isinstance(packed, bytes) else 0)


@dataclass(frozen=True, slots=True)
class Held:
    """The known content of the spool."""

    entries: int = 0
    bytes: int = 0
    oldest_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive entries of a file."""

    entries: Sequence[bytes]
    """The packed entries."""
    last: int
    """The last number that was read."""
    received_ms: int | None
    """The receive time of the last entry."""
    bytes: int
    damaged: int
    """The number of damaged entries in this range, which are left out."""

    @classmethod
    def from_rows(cls, rows: Sequence[Row], confirmed: int, last: int) -> Self:
        """Build a slice of the rows, at least one, with numbers after ``confirmed`` up to ``last``."""
        sound: list[bytes] = [row[3] for row in rows if is_sound(row)]
        size = sum(ROW_BYTES + len(packed) for packed in sound)
        return cls(sound, last, row_received_ms(rows[-1]), size, last - confirmed - len(sound))


def is_sound(row: Row) -> bool:
    """Whether the checksum matches the entry and its number."""
    packed: Any = row[3]
    return isinstance(packed, bytes) and checksum(row[0], packed) == row[2]
