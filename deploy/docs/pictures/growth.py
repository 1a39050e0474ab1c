"""The curves of the bench in data/bench/: a panel a curve, a line with its range for each program."""

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

from deploy.docs.pictures.canvas import Canvas, Ink, Theme
from deploy.docs.results import read_results

TITLE = "CPU time as something grows, median and range of the bench"
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 2, 340, 150
LEFT, TOP, GAP_X, GAP_Y = 70, 60, 90, 100
INKS: Sequence[Ink] = ("accent", "good", "line")
LINEAR_SHARE = 0.1
"""The place of zero on a logarithmic axis is before its first place by this share of the width."""


def draw(theme: Theme) -> Canvas:
    """Draw the picture."""
    curves = [curve for result in read_results().values() for curve in result.get("curves", ())]
    rows = -(-len(curves) // COLUMNS)
    width = LEFT + COLUMNS * (PANEL_WIDTH + GAP_X) - GAP_X + 30
    canvas = Canvas(width, max(TOP + rows * (PANEL_HEIGHT + GAP_Y) - 40, TOP), theme, TITLE)
    for number, curve in enumerate(curves):
        row, column = divmod(number, COLUMNS)
        _draw_panel(canvas, (LEFT + column * (PANEL_WIDTH + GAP_X), TOP + row * (PANEL_HEIGHT + GAP_Y)), curve)
    return canvas


def _draw_panel(canvas: Canvas, corner: tuple[float, float], curve: Mapping[str, Any]) -> None:
    left, top = corner
    bottom = top + PANEL_HEIGHT
    places = sorted({point["at"] for points in curve["lines"].values() for point in points})
    highest = _round_up(max(point["max"] for points in curve["lines"].values() for point in points))
    canvas.text((left - 40, top - 38), f"{curve['unit']}, by {curve['axis']}", size=13, bold=True, anchor="start")
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * PANEL_HEIGHT
        canvas.polyline([(left, y), (left + PANEL_WIDTH, y)], "frame", width=1)
        canvas.text((left - 8, y), f"{highest * share:,g}", size=11, ink="muted", anchor="end")
    shares = _place(places, is_log=curve["is_log"])
    for place, share in shares.items():
        canvas.text((left + share * PANEL_WIDTH, bottom + 14), f"{place:,.0f}", size=11, ink="muted")
    for number, (name, points) in enumerate(curve["lines"].items()):
        ink = INKS[number % len(INKS)]
        canvas.text((left + number * PANEL_WIDTH / 3, top - 16), f"● {name}", size=11, ink=ink, anchor="start")
        for point in points:
            x = left + shares[point["at"]] * PANEL_WIDTH
            ends = [(x, bottom - point[end] / highest * PANEL_HEIGHT) for end in ("min", "max")]
            canvas.polyline(ends, ink, width=2)
            canvas.circle((x, bottom - point["median"] / highest * PANEL_HEIGHT), 3.5, ink)
        medians = [
            (left + shares[point["at"]] * PANEL_WIDTH, bottom - point["median"] / highest * PANEL_HEIGHT)
            for point in points
        ]
        canvas.polyline(medians, ink, width=1.5)


def _place(places: Sequence[float], *, is_log: bool) -> dict[float, float]:
    """Return the share of the width at which each place is."""
    if not is_log:
        least, greatest = 0.0, places[-1]
        return {place: (place - least) / (greatest - least) for place in places}
    least = next(place for place in places if place)
    start = LINEAR_SHARE if places[0] == 0 else 0.0
    span = log10(places[-1] / least) or 1.0
    return {place: start + (1 - start) * log10(place / least) / span if place else 0.0 for place in places}


def _round_up(value: float) -> float:
    step = 10.0 ** int(log10(value))
    return next(factor * step for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15) if factor * step >= value)
