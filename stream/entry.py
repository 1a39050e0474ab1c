"""The wire contract: one entry of a stream, version 1.

Layout of an entry's fields (names and values are bytes, in any order; the first six are read fastest in this one):

=============  ========  =====================================================================
field          present   value
=============  ========  =====================================================================
v              always    ``1``
payload        always    the webhook's raw bytes; for a GET the raw query string
received_ms    always    when the last byte of the request arrived, ms since 1970 UTC, decimal
receipt        always    the id of this receipt; two entries may have the same one (see ingest.append)
content_type   always    the Content-Type as sent, or empty
verified       always    how the sender was verified: ``jwt``, ``sig`` or ``none``
account        if known  the provider's account (Vonage: API key) that signed the webhook
application    if known  the application that signed the webhook
query          if any    the raw query string of a POST
traceparent    traced    the W3C trace context of this receipt; the worker continues this trace
signature      if bad    the reason for ``none`` while signatures are checked: ``missing`` or ``wrong``
probe          probes    the id of a self-test; only with a payload of ``stream.probe``, which no handler gets
replay         copies    the replay that made this copy
origin         copies    the entry this one is a copy of, as ``shard/ms-seq``
attempt        copies    the number of counted attempts, decimal
error          copies    the error of the last attempt, as ``reason: text``
message        copies    the message of that error, at most 1 KiB without configured secrets; may quote private data
errors         copies    the last 10 attempts: a JSON list of objects with ``class``, ``place`` and ``ms``
failed_ms      delayed   the time of the last failed attempt, and ``first_failed_ms`` of the first, ms of the server
=============  ========  =====================================================================

Several versions may run side by side: a reader keeps fields that it does not know (``unknown_fields``) and writes them
into every copy of the entry.

Later versions of this module must read version 1: ``tests/fixtures/entries/v1.json`` checks that.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, get_args

VERSION = b"1"
LONGEST_NUMBER = 19  # digits
LONGEST_TIME = 15  # digits
GREATEST_SEQ = 2**64 - 1
MAX_ATTEMPTS = 10**9
LATEST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z, the last millisecond of a datetime

Verified = Literal["jwt", "sig", "none"]

_VERIFIED: Mapping[bytes, Verified] = {name.encode(): name for name in get_args(Verified)}
_ORDER = [b"v", b"payload", b"received_ms", b"receipt", b"content_type", b"verified"]
_REQUIRED = frozenset(_ORDER)
_TEXTS = ("account", "application", "traceparent", "signature", "probe", "replay", "origin", "error")
_TEXT_FIELDS = tuple((name, name.encode()) for name in _TEXTS)
_OPTIONAL = {name.encode() for name in (*_TEXTS, "query", "attempt")}
_REQUIRED_PARTS = 2 * len(_ORDER)
_ENTRY_ID = re.compile(r"(\d{1,5})/(\d{1,20})-(\d{1,20})", re.ASCII)


class InvalidEntry(ValueError):  # noqa: N818 - named for what it is, like InvalidStatus
    """The fields cannot be decoded by this version. The worker dead-letters the entry unchanged."""


class Entry(NamedTuple):  # created for every webhook, in a third of the time of a frozen dataclass
    """One received webhook as it is stored on the stream. The module's docstring describes the fields."""

    payload: bytes
    content_type: str
    received_ms: int
    receipt: str
    verified: Verified = "none"
    account: str | None = None
    application: str | None = None
    query: bytes | None = None
    traceparent: str | None = None
    signature: str | None = None
    probe: str | None = None
    replay: str | None = None
    origin: str | None = None
    attempt: int | None = None
    error: str | None = None
    unknown_fields: tuple[tuple[bytes, bytes], ...] = ()
    """Names and values of fields that this version does not know, sorted by name."""

    def to_fields(self) -> dict[bytes, bytes]:
        """Encode for XADD. ``from_fields`` decodes the result to an equal entry."""
        fields = {
            b"v": VERSION,
            b"payload": self.payload,
            b"received_ms": b"%d" % self.received_ms,
            b"receipt": self.receipt.encode(),
            b"content_type": self.content_type.encode(),
            b"verified": self.verified.encode(),
        }
        for name in _TEXTS:
            value = getattr(self, name)
            if value is not None:
                fields[name.encode()] = value.encode()
        if self.query is not None:
            fields[b"query"] = self.query
        if self.attempt is not None:
            fields[b"attempt"] = b"%d" % self.attempt
        return fields | dict(self.unknown_fields)

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Self:
        """Decode an entry's fields. Raises InvalidEntry if a required field is missing or a known field is invalid."""
        if fields.get(b"v") != VERSION:
            raise InvalidEntry("the version is not 1")
        if missing := _REQUIRED - fields.keys():
            raise InvalidEntry(f"missing fields: {_names(missing)}")
        verified = _VERIFIED.get(fields[b"verified"])
        if verified is None:
            raise InvalidEntry("verified is not jwt, sig or none")
        return cls(
            fields[b"payload"],
            _text(b"content_type", fields[b"content_type"]),
            _number(b"received_ms", fields[b"received_ms"], LATEST_MS),
            _text(b"receipt", fields[b"receipt"]),
            verified,
            **_optional_values({name: fields[name] for name in fields.keys() - _REQUIRED}),
        )

    @classmethod
    def from_flat(cls, flat: list[bytes]) -> Self:
        """Decode Redis's flat list of alternating names and values. Raises as ``from_fields``."""
        if flat[:_REQUIRED_PARTS:2] != _ORDER or flat[1] != VERSION:
            return cls.from_fields(_unique_fields(flat))
        _, payload, received_ms, receipt, content_type, proof = flat[1:_REQUIRED_PARTS:2]
        try:
            number = _number(b"received_ms", received_ms, LATEST_MS)
            entry = cls(payload, content_type.decode(), number, receipt.decode(), _VERIFIED[proof])
        except (ValueError, KeyError):
            return cls.from_fields(_unique_fields(flat))  # raises the specific error
        more = flat[_REQUIRED_PARTS:]
        return entry._replace(**_optional_values(_unique_fields(more))) if more else entry


def fields_from_flat(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Convert Redis's flat list of names and values to a dict. The last value of a repeated name wins."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def read_received_ms(fields: Mapping[bytes, bytes]) -> int | None:
    """Return the receive time of an entry, even of an invalid one; None if the field is missing or malformed."""
    return read_ms(fields.get(b"received_ms", b""))


def read_due_ms(score: bytes | str) -> int:
    """Return the ms of a delayed retry's score, which a person may have set to any number."""
    return int(max(0, min(float(score), LATEST_MS)))


def read_ms(digits: bytes) -> int | None:
    """Return the ms that a field or a key has; None for a text that is no time."""
    return int(digits) if digits.isdigit() and len(digits) <= LONGEST_TIME else None


def find_origin(fields: Mapping[bytes, bytes]) -> str | None:
    """Return the id of the original entry if these fields are a copy, even an invalid one; else None."""
    origin = fields.get(b"origin", b"").decode(errors="replace")
    return origin if _ENTRY_ID.fullmatch(origin) else None


def _unique_fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    fields = fields_from_flat(flat)
    if 2 * len(fields) != len(flat):
        raise InvalidEntry("a field is repeated")
    return fields


@dataclass(frozen=True, slots=True, order=True)
class EntryId:
    """The id of an entry, shown to people as ``shard/ms-seq``."""

    shard: int
    ms: int
    seq: int

    @classmethod
    def from_redis(cls, shard: int, entry_id: bytes | str) -> Self:
        """Parse Redis's ``ms-seq``."""
        text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
        ms, _, seq = text.partition("-")
        return cls(shard, int(ms), int(seq or 0))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse ``shard/ms-seq``. Raises ValueError if the text is malformed."""
        match = _ENTRY_ID.fullmatch(text)
        if not match:
            raise ValueError(f"{text!r} is not an entry id: write shard/ms-seq, for example 0/1700000000000-0")
        return cls(*map(int, match.groups()))

    @property
    def redis(self) -> str:
        """The id in Redis's form ``ms-seq``."""
        return f"{self.ms}-{self.seq}"

    def before(self) -> "EntryId":
        """Return the previous id; 0-0 returns itself."""
        if self.seq:
            return EntryId(self.shard, self.ms, self.seq - 1)
        return EntryId(self.shard, self.ms - 1, GREATEST_SEQ) if self.ms else self

    def after(self) -> "EntryId":
        """Return the next id."""
        return (
            EntryId(self.shard, self.ms, self.seq + 1)
            if self.seq < GREATEST_SEQ
            else EntryId(self.shard, self.ms + 1, 0)
        )

    def __str__(self) -> str:
        return f"{self.shard}/{self.ms}-{self.seq}"


def _names(fields: frozenset[bytes]) -> str:
    return ", ".join(sorted(field.decode() for field in fields))


def _optional_values(fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    values: dict[str, Any] = {name: _text(field, fields[field]) for name, field in _TEXT_FIELDS if field in fields}
    if b"origin" in fields and find_origin(fields) is None:
        raise InvalidEntry("origin is not an entry id")
    if b"query" in fields:
        values["query"] = fields[b"query"]
    if b"attempt" in fields:
        values["attempt"] = _number(b"attempt", fields[b"attempt"], MAX_ATTEMPTS)
    if unknown := fields.keys() - _OPTIONAL:
        if twice := unknown & _REQUIRED:
            raise InvalidEntry(f"{_names(frozenset(twice))} is repeated")
        values["unknown_fields"] = tuple((name, fields[name]) for name in sorted(unknown))
    return values


def _text(name: bytes, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise InvalidEntry(f"{name.decode()} is not UTF-8") from exc


def _number(name: bytes, digits: bytes, greatest: int) -> int:
    if digits.isdigit() and len(digits) <= LONGEST_NUMBER and (digits[0] != ord("0") or len(digits) == 1):
        number = int(digits)
        if number <= greatest:
            return number
    raise InvalidEntry(f"{name.decode()} is not a whole number up to {greatest}")
