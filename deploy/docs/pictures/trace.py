"""One trace as a viewer shows it: a row for each span, the time from left to right, with a gap for the wait."""

from deploy.docs.pictures.canvas import Canvas, Ink, Theme

TITLE = "One trace: from the receipt of a webhook to the calls of three groups"
ROWS: tuple[tuple[int, str, str, float, float, Ink], ...] = (
    (0, "POST /webhooks/message-status", "ingest", 0, 60, "accent"),
    (1, "process vonage:status", "group orders, attempt 1", 110, 90, "bad"),
    (2, "close order", "a span of your function", 120, 70, "muted"),
    (1, "process vonage:status", "group orders, attempt 2", 290, 70, "good"),
    (2, "close order", "a span of your function", 300, 50, "muted"),
    (1, "process vonage:status", "group shop: forward", 110, 120, "good"),
    (2, "POST /hook", "the target, by traceparent", 130, 80, "muted"),
    (1, "process vonage:status", "group orders, replayed", 440, 60, "good"),
)
LIST = "process vonage:status", "group store: a list", 110.0, 40.0
NOTE = """Waiting in the spool or on the stream, for a retry or a replay, is the time between two spans.
A list has a trace of its own: its span links to the receipt of each traced event in it."""
LEFT, TOP, ROW, BAR = 390, 64, 34, 18


def draw(theme: Theme) -> Canvas:
    """Draw the picture."""
    canvas = Canvas(930, TOP + ROW * (len(ROWS) + 2) + 60, theme, TITLE)
    canvas.text((20, 26), "One trace", size=16, bold=True, anchor="start")
    for number, (depth, name, note, start, length, ink) in enumerate(ROWS):
        _draw_span(canvas, TOP + ROW * number, (name, note), (start, length), ink=ink, depth=depth)
    bottom = TOP + ROW * (len(ROWS) + 1)
    name, note, start, length = LIST
    canvas.text((20, bottom - 26), "Another trace", size=16, bold=True, anchor="start")
    _draw_span(canvas, bottom, (name, note), (start, length), ink="good", depth=0)
    canvas.arrow([(LEFT + start + 4, bottom), (LEFT + 30, TOP + BAR + 4)], "link", at=(LEFT + 92, bottom - 22))
    canvas.text((20, bottom + 46), NOTE, size=12, ink="muted", anchor="start")
    return canvas


def _draw_span(
    canvas: Canvas, top: float, texts: tuple[str, str], times: tuple[float, float], *, ink: Ink, depth: int
) -> None:
    name, note = texts
    start, length = times
    canvas.text((20 + 18 * depth, top + BAR / 2), name, size=12, anchor="start", mono=True)
    canvas.text((LEFT - 14, top + BAR / 2), note, size=12, ink="muted", anchor="end")
    canvas.rectangle((LEFT + start, top), (length, BAR), fill=ink, line=ink, radius=3)
