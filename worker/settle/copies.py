"""Copies of entries that were not handled, as delayed retries and dead letters carry them. No I/O.

A copy has all fields of its entry and, for people: ``origin``, ``attempt``, ``error`` (reason, class and place),
``message`` (the error's own text, which may quote private data) and ``errors`` (the last attempts, as JSON: a list of
objects with ``class``, ``place`` and ``ms``). ``failed_ms`` and ``first_failed_ms`` are moments of the server.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from worker.settle.history import EntryOutcome
from worker.settle.retry_policy import Disposition, Failure

MOST_FIELDS = 1000
MOST_ERRORS = 10
_MOMENTS = (b"failed_ms", b"first_failed_ms")


@dataclass(frozen=True, slots=True)
class Copy:
    """An entry to be delayed or dead-lettered: its id as Redis writes it, and the fields of the copy.

    Without a ``delay_seconds`` it becomes a dead letter. ``final`` is the pair of attempt and error with which it is
    dead-lettered after all, if the settle script finds that the event is at fault and not its target.
    """

    entry_id: bytes
    fields: Mapping[bytes, bytes]
    delay_seconds: float | None = None
    final: tuple[int, str] | None = None
    failed_ms: bytes = b""
    """When its previous attempt failed."""
    first_failed_ms: bytes = b""
    started_seconds_ago: float = 0.0
    """When this attempt began: stands for the previous one if there was none."""

    @classmethod
    def from_invalid(cls, entry_id: bytes, fields: Mapping[bytes, bytes], *, origin: str, error: str) -> "Copy":
        """Make the dead letter of an entry that no handler is given."""
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
        """Make the copy of an entry whose handler has failed at this attempt, counted from 1."""
        retried = b"attempt" in fields
        counted = attempt if disposition.counts else attempt - 1
        noted = _copy_fields(fields, origin, counted, disposition.error)
        noted[b"errors"] = _errors(fields.get(b"errors", b"") if retried else b"", failure)
        noted.pop(b"message", None)
        if failure.message:
            noted[b"message"] = failure.message.encode()
        failed_ms, first_failed_ms = (fields.get(name, b"") if retried else b"" for name in _MOMENTS)
        final = (attempt, f"attempts: {disposition.error}") if disposition.last else None
        return cls(entry_id, noted, disposition.delay_seconds, final, failed_ms, first_failed_ms, started_seconds_ago)

    @property
    def arguments(self) -> list[bytes | str | int]:
        """The arguments of the settle script for this entry."""
        delay_ms = "" if self.delay_seconds is None else round(self.delay_seconds * 1000)
        attempt, error = self.final or ("", "")
        began_ms = round(self.started_seconds_ago * 1000)
        moments = self.failed_ms, self.first_failed_ms, began_ms
        fields = chain.from_iterable(self.fields.items())
        return [self.entry_id, delay_ms, attempt, error, *moments, 2 * len(self.fields), *fields]

    @property
    def reason(self) -> str:
        """The first word of the error with which it is dead-lettered."""
        error = self.final[1] if self.final else self.fields[b"error"].decode()
        return error.partition(": ")[0]

    @property
    def outcome(self) -> EntryOutcome:
        """Its outcome if it is dead-lettered."""
        error = self.final[1] if self.final else self.fields[b"error"].decode(errors="replace")
        return EntryOutcome(self.fields[b"origin"].decode(errors="replace"), "dead-lettered", self.attempts, error)

    @property
    def attempts(self) -> int:
        """How many attempts it has had when it is dead-lettered."""
        return self.final[0] if self.final else int(self.fields[b"attempt"])


def _copy_fields(fields: Mapping[bytes, bytes], origin: str, attempt: int, error: str) -> dict[bytes, bytes]:
    kept = fields if len(fields) <= MOST_FIELDS else {b"payload": _in_one(fields)}
    noted = {name: value for name, value in kept.items() if name not in _MOMENTS}
    return noted | {b"origin": origin.encode(), b"attempt": b"%d" % attempt, b"error": error.encode()}


def _errors(previous: bytes, failure: Failure) -> bytes:
    """Add an attempt to the last ones; a list that cannot be read starts again."""
    try:
        errors = json.loads(previous or b"[]")
    except ValueError:
        errors = []
    attempts = [*(errors if isinstance(errors, list) else []), failure.summary]
    return json.dumps(attempts[-MOST_ERRORS:], separators=(",", ":")).encode()


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) < 10 else 0  # noqa: PLR2004 - MOST_ATTEMPTS has ten


def _in_one(fields: Mapping[bytes, bytes]) -> bytes:
    """Write more fields than a script can take as one text, with what is not ASCII escaped."""
    return b"\n".join(b"%a=%a" % (name, value) for name, value in fields.items())
