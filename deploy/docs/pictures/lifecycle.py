"""The life of an entry in one consumer group, as a state diagram."""

from deploy.docs.pictures.canvas import Canvas, Theme

TITLE = "States of an entry: unread, in flight, acked, delayed, dead letter"


def draw(theme: Theme) -> Canvas:
    """Draw the picture."""
    canvas = Canvas(860, 360, theme, TITLE)
    canvas.box((30, 130), (140, 60), "unread", "on the stream")
    canvas.box((330, 120), (180, 80), "in flight", "fetched, its handler\nis called", line="accent")
    canvas.box((680, 130), (150, 60), "acked", "handled", line="good")
    canvas.box((330, 280), (180, 56), "delayed", "waits for its next attempt", line="warn")
    canvas.box((680, 280), (150, 56), "dead letter", "given up", line="bad")
    canvas.arrow([(170, 160), (328, 160)], "a consumer fetches it", at=(249, 147))
    canvas.arrow([(510, 160), (678, 160)], "the handler returns", at=(594, 147), ink="good")
    canvas.arrow([(390, 200), (390, 278)], "failure", at=(362, 240), ink="warn")
    canvas.arrow([(450, 280), (450, 202)], "due", at=(468, 240))
    canvas.arrow(
        [(510, 190), (600, 190), (600, 294), (678, 294)], "last attempt,\nDiscard, poison", at=(656, 232), ink="bad"
    )
    canvas.arrow([(678, 322), (555, 322), (555, 178), (512, 178)], "replay", at=(582, 336), dashed=True)
    canvas.arrow([(390, 120), (390, 76), (450, 76), (450, 118)], "its worker dies: another one claims it", at=(588, 88))
    canvas.arrow([(755, 130), (755, 30), (350, 30), (350, 118)], "replay of a stored entry", at=(560, 17), dashed=True)
    return canvas
