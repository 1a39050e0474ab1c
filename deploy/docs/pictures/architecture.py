"""The architecture: from the webhook to the handlers, with the spool and the loops of failed entries."""

from deploy.docs.pictures.canvas import Canvas, Theme

TITLE = "Webhooks go through ingest to a Redis stream; workers read it and call handlers"
INGEST = "check the signature\nappend in batches\nkeep the raw bytes"
HANDLERS = (
    ("store", "state of every message, in SQL"),
    ("log", "one line a status"),
    ("forward", "signed POST to your URL"),
    ("your function", "Python, one event or a list"),
)


def draw(theme: Theme) -> Canvas:
    """Draw the picture."""
    canvas = Canvas(980, 384, theme, TITLE)
    canvas.box((24, 70), (120, 70), "Vonage", "status webhooks")
    canvas.box((236, 50), (160, 110), "ingest", INGEST, line="accent")
    canvas.box((470, 70), (160, 70), "Redis stream", "raw payloads, in order")
    canvas.arrow([(144, 90), (234, 90)], "POST", at=(189, 78))
    canvas.arrow([(236, 122), (146, 122)], "200", at=(191, 137), ink="good")
    canvas.arrow([(396, 105), (468, 105)], "append", at=(432, 93))
    _draw_spool(canvas)
    _draw_worker(canvas)
    _draw_loops(canvas)
    return canvas


def _draw_spool(canvas: Canvas) -> None:
    canvas.box((236, 260), (160, 76), "spool", "SQLite files on disk,\nsynced before the 200", line="warn")
    canvas.arrow([(290, 160), (290, 258)], "Redis away\nor slow", at=(250, 196), ink="warn")
    canvas.arrow([(396, 298), (432, 298), (432, 128), (468, 128)], "drained\nlater", at=(405, 214), ink="warn")


def _draw_worker(canvas: Canvas) -> None:
    canvas.rectangle((706, 24), (250, 282), fill="background", line="accent")
    canvas.text((831, 44), "worker", size=15, bold=True)
    canvas.text((831, 63), "one consumer group for each handler", size=12, ink="muted")
    for number, (name, note) in enumerate(HANDLERS):
        canvas.box((722, 80 + number * 55), (218, 47), name, note)
    canvas.arrow([(630, 105), (704, 105)], "fetch", at=(667, 93))


def _draw_loops(canvas: Canvas) -> None:
    canvas.box((470, 196), (160, 52), "delayed retries", "later and later")
    canvas.box((470, 304), (160, 52), "dead letters", "with reason and errors", line="bad")
    canvas.arrow([(704, 212), (632, 212)], "failure", at=(667, 200))
    canvas.arrow([(630, 234), (704, 234)], "due", at=(667, 246))
    canvas.arrow([(740, 306), (740, 320), (632, 320)], "given up", at=(668, 308), ink="bad")
    canvas.arrow([(630, 343), (860, 343), (860, 308)], "replay", at=(748, 357))
