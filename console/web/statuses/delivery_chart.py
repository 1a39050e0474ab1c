"""The chart of the time to delivery: three percentiles over time, for ``charts.js``."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

LINES = (("d", "Median", "p50"), ("b", "90 %", "p90"), ("", "99 %", "p99"))


def draw_delivery(points: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the lines and the times that they share; None under two points."""
    if len(points) < 2:  # noqa: PLR2004 - a line has two ends
        return None
    lines = [{"tone": tone, "label": label, "values": [point[name] for point in points]} for tone, label, name in LINES]
    return {
        "times": [datetime.fromisoformat(point["label"]).timestamp() for point in points],
        "lines": {"delivery": lines},
    }
