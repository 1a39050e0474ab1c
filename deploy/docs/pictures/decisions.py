"""The decisions that lead from a request to its answer."""

from deploy.docs.pictures.canvas import Canvas, Ink, Theme

TITLE = "When is it a 200? The decisions that lead to an answer"
STEPS: tuple[tuple[str, str, str, Ink], ...] = (
    ("Is the path one of\nACKSTREAM_PATHS?", "no", "404", "bad"),
    (
        "Is the body whole, small enough\nand not compressed?",
        "no",
        "413 too large · 415 compressed\n503 not whole in time",
        "bad",
    ),
    ("Does it have a payload?", "no", "200, nothing stored\nVonage checks a URL that way", "good"),
    (
        "Is the signature right, or are\nsignatures observed or off?",
        "no",
        "503, sent again by Vonage\nwrong: kept in quarantine if it may be real",
        "bad",
    ),
    ("Does Redis confirm within\nACKSTREAM_ACK_BUDGET_MS?", "yes", "200, on the stream", "good"),
    ("Does the spool have room\non a healthy disk?", "yes", "200, in the spool\ndrained to the stream later", "good"),
)


def draw(theme: Theme) -> Canvas:
    """Draw the picture."""
    step, top = 86, 24
    canvas = Canvas(740, top + step * len(STEPS) + 72, theme, TITLE)
    for number, (question, branch, answer, ink) in enumerate(STEPS):
        y = top + step * number
        canvas.rectangle((30, y), (260, 56), line="accent", radius=28)
        canvas.text((160, y + (19 if "\n" in question else 28)), question, size=13)
        canvas.arrow([(290, y + 28), (398, y + 28)], branch, at=(344, y + 16))
        canvas.rectangle((400, y), (310, 56), line=ink)
        canvas.text((555, y + (19 if "\n" in answer else 28)), answer, size=13)
        opposite = "no" if branch == "yes" else "yes"
        canvas.arrow([(160, y + 56), (160, y + step - 2)], opposite, at=(178, y + 70))
    y = top + step * len(STEPS)
    canvas.rectangle((30, y), (260, 48), line="bad")
    canvas.text((160, y + 24), "503, sent again by Vonage for 24 h", size=13)
    return canvas
