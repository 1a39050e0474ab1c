"""Limits and cleans texts, so that every database accepts them. No I/O."""

LONGEST_TEXT = 1024  # characters of an optional field


def clean(text: str) -> str:
    """Replace U+0000 by U+FFFD, because PostgreSQL rejects U+0000."""
    return text.replace("\0", "\ufffd")
