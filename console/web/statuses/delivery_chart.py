"""The chart of the time to delivery: three percentiles over time.

The grid lines are at round times (1 s, 10 s, 1 min …) and have equal distances; between two of them the scale is
logarithmic.
"""

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

WIDTH, HEIGHT = 300, 100
LINES = (("d", "Median", "p50"), ("b", "90 %", "p90"), ("", "99 %", "p99"))
GRID_SECONDS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36_000.0, 360_000.0)


def draw_delivery(points: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the paths, the seconds at each grid line from above, and three times below; None under two points."""
    if len(points) < 2:  # noqa: PLR2004 - a line has two ends
        return None
    values = [point[name] for point in points for _, _, name in LINES]
    grid = _choose_grid(min(values), max(values))
    return {
        "lines": [
            {
                "tone": tone,
                "label": label,
                "path": _draw([_height(point[name], grid) for point in points]),
                "newest": points[-1][name],
            }
            for tone, label, name in LINES
        ],
        "grid": [
            {"seconds": seconds, "y": HEIGHT * place / (len(grid) - 1)} for place, seconds in enumerate(reversed(grid))
        ],
        "times": [points[place]["label"] for place in (0, len(points) // 2, -1)],
    }


def _choose_grid(least: float, most: float) -> Sequence[float]:
    """Return the grid lines around these values, at least two."""
    last = len(GRID_SECONDS) - 1
    below = max((place for place, seconds in enumerate(GRID_SECONDS) if seconds <= least), default=0)
    above = min((place for place, seconds in enumerate(GRID_SECONDS) if seconds >= most), default=last)
    below = min(below, last - 1)
    return GRID_SECONDS[below : max(above, below + 1) + 1]


def _height(seconds: float, grid: Sequence[float]) -> float:
    """Return the distance of a value from the upper edge."""
    bounded = min(max(seconds, grid[0]), grid[-1])
    place = max(place for place, line in enumerate(grid[:-1]) if line <= bounded)
    within = log(bounded / grid[place]) / log(grid[place + 1] / grid[place])
    return HEIGHT * (1 - (place + within) / (len(grid) - 1))


def _draw(heights: Sequence[float]) -> str:
    step = WIDTH / (len(heights) - 1)
    return "M" + "L".join(f"{place * step:.1f} {height:.1f}" for place, height in enumerate(heights))
