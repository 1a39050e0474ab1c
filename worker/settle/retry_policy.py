"""Decides what happens to an event whose handler has failed: when it is tried again, or why it is given up. No I/O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from traceback import walk_tb

from stream.redis.client import describe_error
from worker.handlers.errors import Discard, Refused, Retry, TimedOut
from worker.settle.schedule import Schedule

LONGEST_ERROR = 500
LONGEST_MESSAGE_BYTES = 1024

_LIBRARY = re.compile(r"/lib/python3\.\d+/")


@dataclass(frozen=True, slots=True)
class Verdict:
    """``error`` is ``reason: text``, as the copy carries it. Without a ``delay_seconds`` it is a dead letter at once.

    ``last``: this was the last attempt, so it becomes a dead letter if the event is at fault and not its target; else
    it is delayed again, and this attempt does not count.
    """

    error: str
    delay_seconds: float | None
    last: bool = False
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt, for people: the class of the error, its place, its text, and when, in ms since 1970."""

    kind: str
    place: str
    message: str
    ms: int

    @classmethod
    def from_error(cls, error: BaseException, ms: int, secrets: Sequence[str] = ()) -> "Failure":
        """Describe an error, without any of the secrets in its text."""
        return cls(kind(error), _place(error), message_of(error, secrets), ms)

    @property
    def summary(self) -> dict[str, str | int]:
        """The parts that may be shown to anybody."""
        return {"class": self.kind, "place": self.place, "ms": self.ms}


def judge(error: BaseException, attempt: int, schedule: Schedule, chance: float, *, stopping: bool = False) -> Verdict:
    """Return what happens to an event after this attempt, counted from 1. ``chance`` is from [0, 1).

    While the worker is ``stopping`` nothing is given up but what the handler discards.
    """
    if isinstance(error, Discard):
        return Verdict(_bounded(f"discarded: {error.reason}"), None)
    delay = error.after_seconds if isinstance(error, Retry) else schedule.delay_seconds(attempt, chance)
    last = schedule.is_last(attempt)
    return Verdict(_bounded(said_of(error)), delay, last=last and not stopping, counts=not last)


def said_of(error: BaseException) -> str:
    """Say what went wrong as ``reason: text``: a handler's own words, and of any other error its class and place.

    The text of an error that the handler did not choose may quote private data.
    """
    if isinstance(error, Retry):
        return f"retry: {error.reason or 'asked for by the handler'}"
    if isinstance(error, TimedOut):
        return f"timeout: {error}"
    if isinstance(error, Refused):
        return f"refused: {error.reason}"
    place = _place(error)
    return f"failed: {describe_error(error)}{f' at {place}' if place else ''}"


def kind(error: BaseException) -> str:
    """Name a failure for logs and metrics."""
    return "timeout" if isinstance(error, TimedOut) else type(error).__name__


def message_of(error: BaseException, secrets: Sequence[str] = ()) -> str:
    """Return an error's own text, at most LONGEST_MESSAGE_BYTES in UTF-8, with every secret replaced."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a handler's own class may do anything
        return ""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text.encode(errors="replace")[:LONGEST_MESSAGE_BYTES].decode(errors="ignore")


def _place(error: BaseException) -> str:
    """Return the file, without its folder, and the line: the last that is no library's; empty if there is none."""
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    own = (place for place in reversed(places) if not _LIBRARY.search(place[0]))
    file, line = next(own, places[-1] if places else ("", 0))
    return f"{file.rpartition('/')[2]}:{line}" if file else ""


def _bounded(text: str) -> str:
    return text.encode(errors="replace").decode()[:LONGEST_ERROR]
