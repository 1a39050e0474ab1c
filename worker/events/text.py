"""Texts as every database takes them. No I/O."""

LONGEST_TEXT = 1024  # characters of an optional field


def clean(text: str) -> str:
    """Make a text fit for every database: PostgreSQL refuses U+0000."""
    return text.replace("\0", "\ufffd")
