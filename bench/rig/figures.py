"""Figures without a rival: values of each round with a limit, and curves of a figure as something grows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that should be small, round by round. Without a limit it only informs."""

    what: str
    unit: str
    limit: float | None
    each: Sequence[float]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return median(self.each)

    def as_json(self) -> dict[str, Any]:
        """Return everything that the table shows."""
        return {"what": self.what, "unit": self.unit, "limit": self.limit, **summarize(self.each)}

    def __str__(self) -> str:
        limit = (
            "" if self.limit is None else f", at most {self.limit:g} {'met' if self.median <= self.limit else 'missed'}"
        )
        return f"{self.what}: {self.median:.2f} ({min(self.each):.2f} to {max(self.each):.2f}) {self.unit}{limit}"


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure of several lines over the same places of an axis, round by round."""

    axis: str
    unit: str
    lines: Mapping[str, Mapping[float, Sequence[float]]]
    is_log: bool = False
    """Whether the axis is logarithmic."""

    def as_json(self) -> dict[str, Any]:
        """Return the median, least and greatest value at each place of each line."""
        return {
            "axis": self.axis,
            "unit": self.unit,
            "is_log": self.is_log,
            "lines": {
                name: [{"at": place, **summarize(each)} for place, each in points.items()]
                for name, points in self.lines.items()
            },
        }

    def __str__(self) -> str:
        return "\n".join(
            f"{name}, {self.unit} by {self.axis}: "
            + ", ".join(
                f"{place:g}: {median(each):.1f} ({min(each):.1f} to {max(each):.1f})" for place, each in points.items()
            )
            for name, points in self.lines.items()
        )


def summarize(each: Sequence[float]) -> dict[str, float]:
    """Return the median, the least and the greatest of the rounds."""
    return {"median": median(each), "min": min(each), "max": max(each)}
