"""Explains the error codes of the provider: their meaning, the advice, and the page that documents them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """A documented error code."""

    code: str
    meaning: str
    advice: str
    """The next step of a person."""
    source: str
    """The URL of the page that documents the code."""


def explain_code(code: str, channel: str | None = None) -> ErrorCode | None:
    """Return the documented meaning of the code; None if the code is not documented.

    Codes of one or two digits are those of delivery receipts of the SMS API.
    """
    raise NotImplementedError(code, channel)
