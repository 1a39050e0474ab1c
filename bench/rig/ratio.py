"""Rates or costs measured in turn, and the ratios within each round."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

Measure = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Our figures over those of another program, round by round: rates in ``unit`` a second, or costs in ``unit``."""

    what: str
    against: str
    unit: str
    target: float
    ours: Sequence[float]
    theirs: Sequence[float]
    is_cost: bool = field(default=False, kw_only=True)
    """Whether less is better, so that the target is a limit."""

    @property
    def shown_unit(self) -> str:
        """The unit of the figures."""
        return self.unit if self.is_cost else f"{self.unit}/s"

    @property
    def each(self) -> list[float]:
        """The ratio of each round."""
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def median(self) -> float:
        """The median of the rounds' ratios."""
        return median(self.each)

    @property
    def met(self) -> bool:
        """Whether the median reaches the target."""
        return self.median <= self.target if self.is_cost else self.median >= self.target

    def as_json(self) -> dict[str, Any]:
        """Return everything that the table shows, and the rounds' own ratios."""
        return {
            "what": self.what,
            "against": self.against,
            "ratio": round(self.median, 3),
            "min": round(min(self.each), 3),
            "max": round(max(self.each), 3),
            "target": self.target,
            "met": self.met,
            "unit": self.shown_unit,
            "ours": round(median(self.ours), 1),
            "theirs": round(median(self.theirs), 1),
            "ratios": [round(ratio, 3) for ratio in self.each],
        }


def measure_in_turn(rounds: int, measures: Mapping[str, Measure]) -> dict[str, list[float]]:
    """Measure each once a round, every second round in the opposite order, so that drift favours none."""
    rates: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds):
        names = list(measures) if number % 2 == 0 else list(measures)[::-1]
        for name in names:
            rates[name].append(measures[name]())
        shown = ", ".join(f"{name} {rates[name][-1]:,.0f}/s" for name in measures)
        print(f"round {number + 1} of {rounds}: {shown}", file=sys.stderr, flush=True)
    return rates


def table(ratios: Sequence[Ratio]) -> str:
    """Return a line for each ratio: median, least and greatest, target, the median rates, met or missed."""
    rows = [("what", "ratio", "min-max", "target", "ours", "theirs", "")]
    rows += [
        (
            f"{ratio.what} : {ratio.against}",
            f"{ratio.median:.2f}",
            f"{min(ratio.each):.2f}-{max(ratio.each):.2f}",
            f"{'<=' if ratio.is_cost else '>='} {ratio.target:.2f}",
            f"{median(ratio.ours):,.{int(ratio.is_cost)}f} {ratio.shown_unit}",
            f"{median(ratio.theirs):,.{int(ratio.is_cost)}f} {ratio.shown_unit}",
            "met" if ratio.met else "missed",
        )
        for ratio in ratios
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:-1]), row[-1]]).rstrip() for row in rows
    )
