"""The wire contract: one entry of a stream, version 1.

Layout of an entry's fields (names and values are bytes, in any order; the first six are read fastest in this one):

=============  ========  =====================================================================
field          present   value
=============  ========  =====================================================================
v              always    ``1``
payload        always    the webhook's raw bytes; for a GET the raw query string
received_ms    always    when the last byte of the request was there, ms since 1970 UTC, decimal
receipt        always    an id of this receipt; the same id may come twice (see ingest.appender)
content_type   always    the Content-Type as sent, or empty
verified       always    how the sender was proved: ``jwt``, ``sig`` or ``none``
account        if known  the provider's account (Vonage: API key) that the signature proved
application    if known  the application that the signature proved
query          if any    the raw query string of a POST
traceparent    if sent   the W3C trace context header
signature      if bad    why ``verified`` is ``none`` although signatures are checked: ``missing`` or ``wrong``
replay         copies    the replay that made this copy
origin         copies    the entry this one is a copy of, as ``shard/ms-seq``
attempt        copies    how many attempts of the entry count, decimal
error          copies    why the last attempt failed, as ``reason: text``
message        copies    the last error's own text, at most 1 KiB without configured secrets; may quote private data
errors         copies    the last 10 attempts: a JSON list of objects with ``class``, ``place`` and ``ms``
failed_ms      delayed   when the last attempt failed, and ``first_failed_ms`` the first one, ms of the server
=============  ========  =====================================================================

A reader keeps fields that it does not know, so that versions run side by side: they are in ``others``, and in every
copy of the entry.

Every later version of this module reads version 1: ``tests/fixtures/entries/v1.json`` holds it to that.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, get_args

VERSION = b"1"
LONGEST_NUMBER = 19  # digits
LONGEST_MOMENT = 15  # digits
GREATEST_SEQ = 2**64 - 1
MOST_ATTEMPTS = 10**9
LATEST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z, the last moment a datetime can hold

Verified = Literal["jwt", "sig", "none"]

_VERIFIED: Mapping[bytes, Verified] = {name.encode(): name for name in get_args(Verified)}
_ORDER = [b"v", b"payload", b"received_ms", b"receipt", b"content_type", b"verified"]
_REQUIRED = frozenset(_ORDER)
_TEXTS = ("account", "application", "traceparent", "signature", "replay", "origin", "error")
_TEXT_FIELDS = tuple((name, name.encode()) for name in _TEXTS)
_OPTIONAL = {name.encode() for name in (*_TEXTS, "query", "attempt")}
_REQUIRED_PARTS = 2 * len(_ORDER)
_ENTRY_ID = re.compile(r"(\d{1,5})/(\d{1,20})-(\d{1,20})", re.ASCII)


class InvalidEntry(ValueError):  # noqa: N818 - named for what it is, like InvalidStatus
    """The fields are no entry of a version this code reads; the entry goes to the dead letters as it is."""


class Entry(NamedTuple):  # made in a third of the time that a frozen dataclass takes, for every webhook
    """One receipt of one webhook, as it stands on the stream. The module's docstring gives every field's meaning."""

    payload: bytes
    content_type: str
    received_ms: int
    receipt: str
    verified: Verified = "none"
    account: str | None = None
    application: str | None = None
    query: bytes | None = None
    traceparent: str | None = None
    replay: str | None = None
    origin: str | None = None
    attempt: int | None = None
    error: str | None = None
    signature: str | None = None
    others: tuple[tuple[bytes, bytes], ...] = ()
    """Names and values of fields that this version does not know, by name."""

    def to_fields(self) -> dict[bytes, bytes]:
        """Encode for XADD. ``from_fields`` gives back an equal entry."""
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
        return fields | dict(self.others)

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Self:
        """Decode an entry's fields. Raises InvalidEntry for a known field with a value that none can have."""
        if fields.get(b"v") != VERSION:
            raise InvalidEntry("its version is not 1")
        if missing := _REQUIRED - fields.keys():
            raise InvalidEntry(f"it lacks {_names(missing)}")
        verified = _VERIFIED.get(fields[b"verified"])
        if verified is None:
            raise InvalidEntry("verified is none of jwt, sig, none")
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
        """Decode names and values in turn, as Redis gives them. Raises as ``from_fields``."""
        if flat[:_REQUIRED_PARTS:2] != _ORDER or flat[1] != VERSION:
            return cls.from_fields(_named_once(flat))
        _, payload, received_ms, receipt, content_type, proof = flat[1:_REQUIRED_PARTS:2]
        try:
            number = _number(b"received_ms", received_ms, LATEST_MS)
            entry = cls(payload, content_type.decode(), number, receipt.decode(), _VERIFIED[proof])
        except (ValueError, KeyError):
            return cls.from_fields(_named_once(flat))  # which says why it is none
        more = flat[_REQUIRED_PARTS:]
        return entry._replace(**_optional_values(_named_once(more))) if more else entry


def fields_from_flat(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return as fields what Redis gives as names and values in turn; of a name that comes twice the last one."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def read_received_ms(fields: Mapping[bytes, bytes]) -> int | None:
    """Return when the entry was received, whatever else it holds; None for one that does not say so."""
    digits = fields.get(b"received_ms", b"")
    return int(digits) if digits.isdigit() and len(digits) <= LONGEST_MOMENT else None


def find_origin(fields: Mapping[bytes, bytes]) -> str | None:
    """Return the entry these fields are a copy of, whatever else they hold; None if they name no entry."""
    origin = fields.get(b"origin", b"").decode(errors="replace")
    return origin if _ENTRY_ID.fullmatch(origin) else None


def _named_once(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    fields = fields_from_flat(flat)
    if 2 * len(fields) != len(flat):
        raise InvalidEntry("one of its fields comes twice")
    return fields


@dataclass(frozen=True, slots=True, order=True)
class EntryId:
    """Where an entry stands, written ``shard/ms-seq`` wherever a person sees it."""

    shard: int
    ms: int
    seq: int

    @classmethod
    def from_redis(cls, shard: int, entry_id: bytes | str) -> Self:
        """Take the ``ms-seq`` that Redis gives."""
        text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
        ms, _, seq = text.partition("-")
        return cls(shard, int(ms), int(seq or 0))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Take ``shard/ms-seq``. Raises ValueError for anything else."""
        found = _ENTRY_ID.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} is not an entry; one is written shard/ms-seq, for example 0/1700000000000-0")
        return cls(*map(int, found.groups()))

    @property
    def redis(self) -> str:
        """The ``ms-seq`` that Redis takes."""
        return f"{self.ms}-{self.seq}"

    def before(self) -> "EntryId":
        """Return the greatest id that is less than this one; of 0-0, itself."""
        if self.seq:
            return EntryId(self.shard, self.ms, self.seq - 1)
        return EntryId(self.shard, self.ms - 1, GREATEST_SEQ) if self.ms else self

    def after(self) -> "EntryId":
        """Return the least id that is greater than this one."""
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
    found: dict[str, Any] = {name: _text(field, fields[field]) for name, field in _TEXT_FIELDS if field in fields}
    if b"origin" in fields and find_origin(fields) is None:
        raise InvalidEntry("origin is not an entry")
    if b"query" in fields:
        found["query"] = fields[b"query"]
    if b"attempt" in fields:
        found["attempt"] = _number(b"attempt", fields[b"attempt"], MOST_ATTEMPTS)
    if unknown := fields.keys() - _OPTIONAL:
        if twice := unknown & _REQUIRED:
            raise InvalidEntry(f"{_names(frozenset(twice))} comes twice")
        found["others"] = tuple((name, fields[name]) for name in sorted(unknown))
    return found


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
