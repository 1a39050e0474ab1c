"""Ratios of the bench with their spread, of all comparisons in data/bench/: a line a ratio, a tick for its target."""

from collections.abc import Mapping
from math import log10
from typing import Any

from deploy.docs.pictures.canvas import Canvas, Ink, Theme
from deploy.docs.results import read_results

TITLE = "Ratios of the bench, median and range"
WIDTH, LEFT, RIGHT, STEP, HEAD = 920, 430, 860, 24, 46
LEAST, GREATEST = 0.1, 100
TICKS = (0.1, 0.3, 1, 3, 10, 30, 100)


def draw(theme: Theme) -> Canvas:
    """Draw the picture."""
    results = {name: result for name, result in read_results().items() if result.get("ratios")}
    rows = sum(len(result["ratios"]) for result in results.values())
    height = 60 + rows * STEP + len(results) * HEAD
    canvas = Canvas(WIDTH, height, theme, TITLE)
    for tick in TICKS:
        x = _place(tick)
        canvas.polyline([(x, 30), (x, height - 40)], "frame", width=1)
        canvas.text((x, height - 24), f"{tick:g}", size=12, ink="muted")
    top = 24.0
    for name, result in results.items():
        canvas.text((20, top), f"{name}: {result['source']['date']}", size=13, bold=True, anchor="start")
        for number, row in enumerate(result["ratios"]):
            _draw_row(canvas, top + 26 + number * STEP, row)
        top += HEAD + len(result["ratios"]) * STEP
    return canvas


def _draw_row(canvas: Canvas, y: float, row: Mapping[str, Any]) -> None:
    is_cost = row["unit"].startswith("CPU")
    is_met = row["ratio"] <= row["target"] if is_cost else row["ratio"] >= row["target"]
    ink: Ink = "good" if is_met else "warn"
    label = f"{row['what']} : {row['against']}, {'CPU' if is_cost else 'rate'}"
    canvas.text((LEFT - 12, y), label, size=12, anchor="end")
    canvas.polyline([(_place(row["min"]), y), (_place(row["max"]), y)], ink, width=3)
    target = _place(row["target"])
    canvas.polyline([(target, y - 8), (target, y + 8)], "muted", width=2)
    canvas.circle((_place(row["ratio"]), y), 5, ink)


def _place(ratio: float) -> float:
    share = log10(min(max(ratio, LEAST), GREATEST) / LEAST) / log10(GREATEST / LEAST)
    return LEFT + (RIGHT - LEFT) * share
