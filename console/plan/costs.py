"""The measured costs of one status in each part, as ``costs.json`` has them."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import orjson

FILE = Path(__file__).parent / "costs.json"


@dataclass(frozen=True, slots=True)
class SizeCurve:
    """Bytes that depend on the size of the payload, measured at some sizes."""

    points: tuple[tuple[float, float], ...]

    def at(self, size: float) -> float:
        """Return the bytes at a size, on straight lines through the measured points."""
        place = bisect_right(self.points, (size, float("inf")))
        place = min(max(place, 1), len(self.points) - 1)
        (left, low), (right, high) = self.points[place - 1 : place + 1]
        return low + (high - low) * (size - left) / (right - left)

    @classmethod
    def from_json(cls, points: list[list[float]]) -> Self:
        """Return the curve through these points, which are sorted by size."""
        return cls(tuple((size, bytes_) for size, bytes_ in points))


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU times in microseconds, sizes in bytes.

    ``ingest`` and ``workers`` have the CPU times of their part by name. The others are for one entry, event or message.
    """

    ingest: dict[str, SizeCurve]
    workers: dict[str, SizeCurve]
    entry: SizeCurve
    entry_file: SizeCurve
    mark: float
    delayed_extra: float
    dead_letter_extra: float
    event: SizeCurve
    message: float
    log: SizeCurve
    event_index: float
    message_index: float
    pages: float
    commit_ms: float

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> Self:
        """Return the costs of a table in the form of the file."""
        redis, database, writes = table["redis"], table["postgresql"], table["writes"]
        return cls(
            ingest=_curves(table["ingest"]),
            workers=_curves(table["store"]) | _curves(table["functions"]),
            entry=SizeCurve.from_json(redis["entry_bytes"]),
            entry_file=SizeCurve.from_json(redis["file_bytes"]),
            mark=redis["mark_bytes"],
            delayed_extra=redis["delayed_extra_bytes"],
            dead_letter_extra=redis["dead_letter_extra_bytes"],
            event=SizeCurve.from_json(database["event_bytes"]),
            message=database["message_bytes"],
            log=SizeCurve.from_json(database["log_bytes"]),
            event_index=writes["event_index_bytes"],
            message_index=writes["message_index_bytes"],
            pages=writes["pages"],
            commit_ms=writes["commit_ms"],
        )


def _curves(part: dict[str, Any]) -> dict[str, SizeCurve]:
    return {name: SizeCurve.from_json(points) for name, points in part.items() if name.endswith("_us")}


@cache
def read_table() -> dict[str, Any]:
    """Return the whole file, with the source of each part."""
    table: dict[str, Any] = orjson.loads(FILE.read_bytes())
    return table


@cache
def read_costs() -> Costs:
    """Return the costs of the file."""
    return Costs.from_json(read_table())
