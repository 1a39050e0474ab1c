"""Speed as ratios: bars of the figures in data/speed.json, which docs/benchmarks.md explains."""

import json
from collections.abc import Sequence
from pathlib import Path

from deploy.docs.pictures.canvas import Canvas, Ink, Theme

TITLE = "Speed as ratios"
FILE = Path(__file__).parents[1] / "data" / "speed.json"
BARS = {
    "ingest": "Webhooks acknowledged a second, as a ratio to an aiohttp server that stores nothing",
    "worker": "Events handled a second, as a ratio to Redis's client alone",
}
LEFT, WIDTH, STEP = 310, 860, 27


def draw(theme: Theme) -> Canvas:
    """Draw the picture."""
    record = json.loads(FILE.read_text())
    rows = sum(len(record[name]) for name in BARS)
    canvas = Canvas(WIDTH, 40 + rows * STEP + len(BARS) * 50, theme, TITLE)
    top = 28.0
    for name, title in BARS.items():
        canvas.text((20, top), title, size=14, bold=True, anchor="start")
        _draw_bars(canvas, top + 28, record[name])
        top += 50 + len(record[name]) * STEP
    canvas.text((20, top - 8), record["source"], size=11, ink="muted", anchor="start")
    return canvas


def _draw_bars(canvas: Canvas, top: float, rows: Sequence[tuple[str, float]]) -> None:
    longest = WIDTH - LEFT - 70
    for number, (name, ratio) in enumerate(rows):
        y = top + number * STEP
        is_ours = name.startswith("Ackstream")
        canvas.text((LEFT - 10, y), name, size=12.5, anchor="end", bold=is_ours)
        ink: Ink = "accent" if is_ours else "line"
        canvas.rectangle((LEFT, y - 9), (max(longest * ratio, 2), 18), fill=ink, line=ink, radius=3)
        canvas.text((LEFT + longest * ratio + 10, y), f"{ratio:g}", size=12, ink="muted", anchor="start")
