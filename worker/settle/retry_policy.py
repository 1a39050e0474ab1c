"""The retry policy: decides when a failed event is tried again, or why it is dead-lettered. No I/O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from traceback import walk_tb

from stream.redis.client import describe_error
from worker.handlers.errors import LONGEST_DELAY_SECONDS, Discard, Refused, Retry, TimedOut

LONGEST_ERROR = 500
LONGEST_MESSAGE_BYTES = 1024

_DOUBLINGS = 64  # after these, every delay is at its cap
_LIBRARY = re.compile(r"/lib/python3\.\d+/")


@dataclass(frozen=True, slots=True)
class Disposition:
    """The decision on one failed event.

    ``error`` is ``reason: text``, as the copy carries it. Without a ``delay_seconds`` the event becomes a dead letter
    at once. ``last`` marks the last attempt: the settle script then dead-letters the event if the event is at fault,
    or delays it again, without counting the attempt, if the target is at fault.
    """

    error: str
    delay_seconds: float | None
    last: bool = False
    counts: bool = True


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Delays that double from ``base_seconds`` up to ``cap_seconds``, for at most ``attempts`` attempts."""

    base_seconds: float = 5.0
    cap_seconds: float = 900.0
    attempts: int = 24

    def is_last(self, attempt: int) -> bool:
        """Whether this attempt, counted from 1, is the last one."""
        return attempt >= self.attempts

    def longest_seconds(self, attempt: int) -> float:
        """Return the longest delay after this attempt, counted from 1."""
        return min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempt - 1, _DOUBLINGS))

    def delay_seconds(self, attempt: int, chance: float) -> float:
        """Return the delay after this attempt: ``chance``, from [0, 1), of the longest delay (full jitter)."""
        return chance * self.longest_seconds(attempt)

    def decide(self, error: BaseException, attempt: int, chance: float, *, stopping: bool = False) -> Disposition:
        """Return the decision on an event after this attempt, counted from 1. ``chance`` is from [0, 1).

        While the worker is ``stopping``, only events that the handler discards are dead-lettered.
        """
        if isinstance(error, Discard):
            return Disposition(_shorten(f"discarded: {_text(_read(error, 'reason'))}"), None)
        delay = _own_delay(error) if isinstance(error, Retry) else None
        if delay is None:
            delay = self.delay_seconds(attempt, chance)
        last = self.is_last(attempt)
        return Disposition(_shorten(error_text(error)), delay, last=last and not stopping, counts=not last)


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt, for people: the class of the error, its place, its text, and the time in ms since 1970."""

    kind: str
    place: str
    message: str
    ms: int

    @classmethod
    def from_error(cls, error: BaseException, ms: int, secrets: Sequence[str] = ()) -> "Failure":
        """Describe an error, and replace each of the secrets in its text."""
        return cls(failure_kind(error), _find_place(error), error_message(error, secrets), ms)

    @property
    def summary(self) -> dict[str, str | int]:
        """The parts that hold no private data."""
        return {"class": self.kind, "place": self.place, "ms": self.ms}


def error_text(error: BaseException) -> str:
    """Return ``reason: text``: the handler's own words, or the class and place of any other error.

    The text of an error that the handler did not write may quote private data, so it is left out.
    """
    if isinstance(error, Retry):
        return f"retry: {_text(_read(error, 'reason')) or 'asked for by the handler'}"
    if isinstance(error, TimedOut):
        return f"timeout: {error}"
    if isinstance(error, Refused):
        return f"refused: {error.reason}"
    place = _find_place(error)
    return f"failed: {describe_error(error)}{f' at {place}' if place else ''}"


def failure_kind(error: BaseException) -> str:
    """Return the name of a failure for logs and metrics."""
    return "timeout" if isinstance(error, TimedOut) else type(error).__name__


def error_message(error: BaseException, secrets: Sequence[str] = ()) -> str:
    """Return an error's own text, at most LONGEST_MESSAGE_BYTES in UTF-8, with each secret replaced."""
    text = _text(error)
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text.encode(errors="replace")[:LONGEST_MESSAGE_BYTES].decode(errors="ignore")


def _text(words: object) -> str:
    """Return a handler's own object as text; empty for None, and if it has none."""
    try:
        return "" if words is None else str(words)
    except BaseException:  # noqa: BLE001 - a class of the handler may do anything
        return ""


def _read(error: BaseException, name: str) -> object:
    """Return an attribute of the error; None if it cannot be read."""
    try:
        return getattr(error, name)
    except BaseException:  # noqa: BLE001 - a class of the handler may do anything
        return None


def _own_delay(error: Retry) -> float | None:
    """Return the delay that the handler asks for; None if a subclass has left it out or changed it to another value."""
    seconds = _read(error, "after_seconds")
    return seconds if isinstance(seconds, int | float) and 0 <= seconds <= LONGEST_DELAY_SECONDS else None


def _find_place(error: BaseException) -> str:
    """Return the name and line of the last file outside libraries, else of the last file; empty without a traceback."""
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    in_handler = (place for place in reversed(places) if not _LIBRARY.search(place[0]))
    file, line = next(in_handler, places[-1] if places else ("", 0))
    return f"{file.rpartition('/')[2]}:{line}" if file else ""


def _shorten(text: str) -> str:
    return text.encode(errors="replace").decode()[:LONGEST_ERROR]
