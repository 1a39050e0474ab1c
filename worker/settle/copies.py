"""Builds the copies of failed entries that become delayed retries and dead letters. No I/O.

A copy has all fields of its entry and these: ``origin``, ``attempt``, ``error`` (reason, class and place), ``message``
(the error's own text, which may quote private data) and ``errors`` (the last attempts as a JSON list of objects with
``class``, ``place`` and ``ms``). ``failed_ms`` and ``first_failed_ms`` are times of the server's clock.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from worker.settle.history import EntryOutcome
from worker.settle.retry_policy import Disposition, Failure

MOST_FIELDS = 1000
MOST_ERRORS = 10
_TIMES = (b"failed_ms", b"first_failed_ms")


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy of an entry to delay or dead-letter: the entry's id as in Redis, and the fields of the copy.

    Without a ``delay_seconds`` the copy becomes a dead letter. ``final`` is the attempt and the error with which the
    settle script dead-letters the entry if the event is at fault and not its target.
    """

    entry_id: bytes
    fields: Mapping[bytes, bytes]
    delay_seconds: float | None = None
    final: tuple[int, str] | None = None
    failed_ms: bytes = b""
    """The time of the previous failure."""
    first_failed_ms: bytes = b""
    started_seconds_ago: float = 0.0
    """The start of this attempt: replaces the time of the previous failure at the first one."""

    @classmethod
    def from_invalid(cls, entry_id: bytes, fields: Mapping[bytes, bytes], *, origin: str, error: str) -> "Copy":
        """Return the dead letter of an entry that no handler receives."""
        attempts = _number(fields.get(b"attempt", b""))
        return cls(entry_id, _copy_fields(fields, origin, attempts + 1, error))

    @classmethod
    def from_failure(
        cls,
        entry_id: bytes,
        fields: Mapping[bytes, bytes],
        *,
        origin: str,
        attempt: int,
        disposition: Disposition,
        failure: Failure,
        started_seconds_ago: float = 0.0,
    ) -> "Copy":
        """Return the copy of an entry whose handler failed at this attempt, counted from 1."""
        retried = b"attempt" in fields
        counted_attempts = attempt if disposition.counts else attempt - 1
        copied = _copy_fields(fields, origin, counted_attempts, disposition.error)
        copied[b"errors"] = _add_error(read_errors(fields) if retried else (), failure)
        copied.pop(b"message", None)
        if failure.message:
            copied[b"message"] = failure.message.encode()
        failed_ms, first_failed_ms = (fields.get(name, b"") if retried else b"" for name in _TIMES)
        final = (attempt, f"attempts: {disposition.error}") if disposition.last else None
        return cls(entry_id, copied, disposition.delay_seconds, final, failed_ms, first_failed_ms, started_seconds_ago)

    @property
    def arguments(self) -> list[bytes | str | int]:
        """The arguments of the settle script for this copy."""
        delay_ms = "" if self.delay_seconds is None else round(self.delay_seconds * 1000)
        attempt, error = self.final or ("", "")
        started_ms = round(self.started_seconds_ago * 1000)
        times = self.failed_ms, self.first_failed_ms, started_ms
        fields = chain.from_iterable(self.fields.items())
        return [self.entry_id, delay_ms, attempt, error, *times, 2 * len(self.fields), *fields]

    @property
    def reason(self) -> str:
        """The reason with which the entry is dead-lettered: the first word of the error."""
        error = self.final[1] if self.final else self.fields[b"error"].decode()
        return error.partition(": ")[0]

    @property
    def outcome(self) -> EntryOutcome:
        """The outcome for the history if the entry is dead-lettered."""
        error = self.final[1] if self.final else self.fields[b"error"].decode(errors="replace")
        return EntryOutcome(self.fields[b"origin"].decode(errors="replace"), "dead-lettered", self.attempts, error)

    @property
    def attempts(self) -> int:
        """The number of attempts if the entry is dead-lettered."""
        return self.final[0] if self.final else int(self.fields[b"attempt"])


def _copy_fields(fields: Mapping[bytes, bytes], origin: str, attempt: int, error: str) -> dict[bytes, bytes]:
    carried = fields if len(fields) <= MOST_FIELDS else {b"payload": _in_one(fields)}
    copied = {name: value for name, value in carried.items() if name not in _TIMES}
    return copied | {b"origin": origin.encode(), b"attempt": b"%d" % attempt, b"error": error.encode()}


def read_errors(fields: Mapping[bytes, bytes]) -> list[Mapping[str, Any]]:
    """Return the field ``errors`` of a copy, the oldest attempt first; an unreadable list is empty."""
    with suppress(orjson.JSONDecodeError):
        errors = orjson.loads(fields.get(b"errors", b""))
        return [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    return []


def _add_error(errors: Sequence[Mapping[str, Any]], failure: Failure) -> bytes:
    attempts = [*errors, failure.summary][-MOST_ERRORS:]
    return json.dumps(attempts, separators=(",", ":")).encode()


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) < 10 else 0  # noqa: PLR2004 - MAX_ATTEMPTS has ten


def _in_one(fields: Mapping[bytes, bytes]) -> bytes:
    """Return fields that are too many for a script as one text, with non-ASCII bytes escaped."""
    return b"\n".join(b"%a=%a" % (name, value) for name, value in fields.items())
