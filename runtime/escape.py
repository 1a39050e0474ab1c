"""Escape text from outside before it is printed, so that a client cannot control a terminal or forge a line."""


def escape_unprintable(text: str, *, keep: str = "") -> str:
    """Escape characters that a terminal acts on or hides: control characters, bidirectional marks, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode() for char in text
    )
