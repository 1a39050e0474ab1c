"""An entry's fields for people to read, whatever is in them."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from runtime.errors import Refusal
from stream.entry import EntryId
from worker.events.event import mask

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"\d{6,}")


def readable(value: bytes) -> str:
    """Return the bytes as text; what is no UTF-8 is escaped."""
    return value.decode(errors="backslashreplace")


def masked(text: str) -> str:
    """Hide all but the end of every long run of digits, which may be a phone number."""
    return _NUMBER.sub(lambda run: mask(run.group()) or "", text)


def received_at(fields: Mapping[bytes, bytes]) -> str | None:
    """Return when the entry was received, in ISO 8601; None for an entry that is none of ours."""
    digits = fields.get(b"received_ms", b"").decode(errors="replace")
    if not re.fullmatch(r"\d{1,14}", digits, re.ASCII):
        return None
    return (_EPOCH + timedelta(milliseconds=int(digits))).isoformat()


def named(text: str) -> EntryId:
    """Return the id that a person wrote. Raises Refusal for what is none."""
    try:
        return EntryId.from_text(text)
    except ValueError as exc:
        raise Refusal(str(exc)) from None
