"""What becomes of an event whose handler has failed: when it is tried again, or why it is given up. No I/O."""

import re
from dataclasses import dataclass
from traceback import walk_tb

from stream.redis.client import names
from worker.handlers.errors import Discard, Refused, Retry, TimedOut
from worker.settle.schedule import Schedule

LONGEST_ERROR = 500

_LIBRARY = re.compile(r"/lib/python3\.\d+/")


@dataclass(frozen=True, slots=True)
class Verdict:
    """``error`` is ``reason: text``, as it stands in the copy. ``delay_seconds`` is None for a dead letter."""

    error: str
    delay_seconds: float | None


def judge(error: BaseException, attempt: int, schedule: Schedule, chance: float) -> Verdict:
    """Return what becomes of an event after this attempt, counted from 1. ``chance`` is from [0, 1)."""
    if isinstance(error, Discard):
        return Verdict(_bounded(f"discarded: {error.reason}"), None)
    said = said_of(error)
    if schedule.is_last(attempt):
        return Verdict(_bounded(f"attempts: {said}"), None)
    delay = error.after_seconds if isinstance(error, Retry) else schedule.delay_seconds(attempt, chance)
    return Verdict(_bounded(said), delay)


def said_of(error: BaseException) -> str:
    """Say what went wrong as ``reason: text``: a handler's own words, and of any other error its class and place.

    The text of an error that the handler did not choose may quote what must not be shown.
    """
    if isinstance(error, Retry):
        return f"retry: {error.reason or 'asked for by the handler'}"
    if isinstance(error, TimedOut):
        return f"timeout: {error}"
    if isinstance(error, Refused):
        return f"refused: {error.reason}"
    return f"failed: {names(error)}{_place(error)}"


def kind(error: BaseException) -> str:
    """Name a failure for logs and metrics."""
    return "timeout" if isinstance(error, TimedOut) else type(error).__name__


def _place(error: BaseException) -> str:
    """Return the file, without its folder, and the line: the last that is no library's."""
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    own = (place for place in reversed(places) if not _LIBRARY.search(place[0]))
    file, line = next(own, places[-1] if places else ("", 0))
    return f" at {file.rpartition('/')[2]}:{line}" if file else ""


def _bounded(text: str) -> str:
    return text.encode(errors="replace").decode()[:LONGEST_ERROR]
