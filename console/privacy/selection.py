"""Decides which stored records belong to a person. No I/O.

A record belongs to the subject if it has one of its numbers, ids or references. All records of a message that has one
such record belong to it too, as a receipt may have no number. So two looks are needed: the first one collects the
messages and entries, the second one finds all of their records.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from runtime.errors import CommandError
from worker.events.identity import PARTIES, read_identity
from worker.events.numbers import SHORTEST, NumberFinder, digits_of, spellings

MOST_IDS = 200_000
"""Of messages, and of entries: about 40 MB each."""

_WORD = re.compile(r"[\w./-]*[\w]")
_NO_TEXT = frozenset(
    (b"v", b"received_ms", b"receipt", b"verified", b"attempt", b"failed_ms", b"first_failed_ms", b"traceparent",
     b"fingerprint", b"noted", b"origin", b"replay", b"size")
)  # fmt: skip
"""Fields of an entry whose digits are times, counts and random ids."""


@dataclass(frozen=True, slots=True)
class Record:
    """One stored record. Its place removes it by ``key``. ``origin`` is its entry, or empty."""

    key: Any
    fields: Mapping[bytes, bytes]
    origin: str = ""
    message_uuid: str | None = None
    place: str = ""
    """The name of its place if that has several."""


@dataclass(frozen=True)
class Subject:
    """The numbers, ids of messages and client references of a person; digits only in numbers."""

    numbers: frozenset[str] = frozenset()
    messages: frozenset[str] = frozenset()
    client_refs: frozenset[str] = frozenset()
    hashes: frozenset[str] = frozenset()
    """The hashes of the numbers, if the tables may have hashes."""

    @cached_property
    def finder(self) -> NumberFinder:
        """Finds the numbers that are not short codes."""
        return NumberFinder(frozenset(number for number in self.numbers if len(number) >= SHORTEST))

    @cached_property
    def short_codes(self) -> frozenset[str]:
        """The numbers with fewer than SHORTEST digits."""
        return frozenset(number for number in self.numbers if len(number) < SHORTEST)

    def has_number_in(self, text: str) -> bool:
        """Whether a text has one of the numbers, or its hash."""
        return self.finder.is_in(text) or any(number_hash in text for number_hash in self.hashes)

    def is_in_text(self, text: str) -> bool:
        """Whether a text has one of the numbers, ids or references."""
        if self.has_number_in(text):
            return True
        names = self.messages | self.client_refs
        return bool(names) and any(has_word(plain, name) for plain in spellings(text) for name in names)


@dataclass(slots=True)
class Selection:
    """The subject, and the messages and entries that were found to belong to it."""

    subject: Subject
    messages: set[str] = field(default_factory=set)
    entries: set[str] = field(default_factory=set)
    is_complete: bool = False
    """Whether every place was looked at, so that ``messages`` has all."""

    def __post_init__(self) -> None:
        self.messages |= self.subject.messages

    def add(self, record: Record) -> None:
        """Add the message and the entry of a record that belongs to the subject. Raises CommandError for too many."""
        identity = read_identity(record.fields.get(b"payload", b""))
        ids = record.message_uuid, identity.message_uuid if identity else None
        self.messages.update(message_uuid for message_uuid in ids if message_uuid is not None)
        if record.origin:
            self.entries.add(record.origin)
        if max(len(self.messages), len(self.entries)) > MOST_IDS:
            raise CommandError(
                f"more than {MOST_IDS:,} messages or entries belong to this: it may be a sender of "
                "yours; name recipients, messages or client references instead"
            )

    def has(self, record: Record) -> bool:
        """Whether the record belongs to the subject."""
        if record.message_uuid in self.messages or (record.origin and record.origin in self.entries):
            return True
        if any(
            self.subject.has_number_in(_text(value)) for name, value in record.fields.items() if name not in _NO_TEXT
        ):
            return True
        subject, payload = self.subject, record.fields.get(b"payload")
        if payload is None or not (self.messages or subject.client_refs or subject.short_codes):
            return False
        if subject.short_codes and self._has_short_code(record):
            return True
        identity = read_identity(payload)
        if identity is None or identity.message_uuid is None:
            return subject.is_in_text(_text(payload))  # it is not a status of a message: any text may be an id
        return identity.message_uuid in self.messages or identity.client_ref in subject.client_refs

    def has_text(self, text: str) -> bool:
        """Whether a text of a person or a program names the subject, one of its messages or one of its entries."""
        words = frozenset(_WORD.findall(text))
        return not (words.isdisjoint(self.messages) and words.isdisjoint(self.entries)) or self.subject.is_in_text(text)

    def _has_short_code(self, record: Record) -> bool:
        identity = read_identity(record.fields[b"payload"])
        parties = list(identity.parties) if identity else []
        query = parse_qsl(_text(record.fields.get(b"query", b"")), keep_blank_values=True)
        parties += [value for name, value in query if name in PARTIES]
        return any(digits_of(party) in self.subject.short_codes for party in parties)


def has_word(text: str, word: str) -> bool:
    """Whether the text has this word, and not only as a part of a longer one."""
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not _joins(text[start - 1 : start]) and not _joins(text[end : end + 1]):
            return True
        start = text.find(word, start + 1)
    return False


def _joins(character: str) -> bool:
    return character.isalnum() or character in ("-", "_")


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
