"""A minute without Redis: answers, their time, and the spool, second by second, as recorded by record_outage."""

import json
from collections.abc import Sequence
from pathlib import Path

from deploy.docs.pictures.canvas import Canvas, Ink, Theme

TITLE = "A minute without Redis: answers and spool over time"
FILE = Path(__file__).parents[1] / "data" / "outage.json"
LEFT, RIGHT, WIDTH = 96, 24, 860
PANEL_HEIGHT, GAP, TOP = 110, 44, 92


def draw(theme: Theme) -> Canvas:
    """Draw the picture."""
    record = json.loads(FILE.read_text())
    seconds = record["seconds"]
    canvas = Canvas(WIDTH, TOP + 3 * PANEL_HEIGHT + 2 * GAP + 56, theme, TITLE)
    canvas.text((LEFT, 24), "A minute without Redis", size=16, bold=True, anchor="start")
    refused = sum(second["others"] for second in seconds)
    count = sum(second["answered_200"] for second in seconds)
    note = f"{record['rate']} webhooks a second; Redis is killed for 60 s; {count:,} answers of 200, {refused} others"
    canvas.text((LEFT, 46), note, size=12, ink="muted", anchor="start")
    scale = (WIDTH - LEFT - RIGHT) / len(seconds)
    start, end = LEFT + record["away_from"] * scale, LEFT + record["away_until"] * scale
    height = 3 * PANEL_HEIGHT + 2 * GAP
    canvas.rectangle((start, TOP), (end - start, height), line="frame", radius=0)
    canvas.text(((start + end) / 2, TOP + height + 14), "Redis is away", size=12, ink="bad")
    panels: tuple[tuple[str, str, Ink], ...] = (
        ("answers of 200 a second", "answered_200", "good"),
        ("slowest answer, ms", "slowest_ms", "accent"),
        ("entries in the spool", "spooled", "warn"),
    )
    for number, (title, name, ink) in enumerate(panels):
        _draw_panel(canvas, TOP + number * (PANEL_HEIGHT + GAP), title, [second[name] for second in seconds], ink)
    for second in range(0, len(seconds) + 1, 10):
        canvas.text((LEFT + second * scale, TOP + height + 34), f"{second} s", size=11, ink="muted")
    return canvas


def _draw_panel(canvas: Canvas, top: float, title: str, values: Sequence[float], ink: Ink) -> None:
    highest = _round_up(max(values))
    scale = (WIDTH - LEFT - RIGHT) / len(values)
    bottom = top + PANEL_HEIGHT
    canvas.text((LEFT + 4, top - 12), title, size=12, bold=True, anchor="start")
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * PANEL_HEIGHT
        canvas.polyline([(LEFT, y), (WIDTH - RIGHT, y)], "frame", width=1)
        canvas.text((LEFT - 8, y), f"{highest * share:,.0f}", size=11, ink="muted", anchor="end")
    points = [
        (LEFT + (place + 0.5) * scale, bottom - value / highest * PANEL_HEIGHT) for place, value in enumerate(values)
    ]
    canvas.polyline(points, ink, width=2.2)


def _round_up(value: float) -> float:
    step = 10 ** (len(str(int(value))) - 1)
    return float(max(step * -(-int(value + 1) // step), 2))
