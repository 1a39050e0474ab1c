"""Replaces the phone numbers of an event by keyed hashes, before it is written to the tables. No I/O.

The numbers are those of sender and recipient, in all texts of the payload and of the URL's query. A number with fewer
than SHORTEST digits is a short code, which belongs to no person, and stays. Ids, statuses and times stay as sent.

The hash is HMAC-SHA-256 with 96 bits of its result, as letters, so no code takes a part of it for a number. The id of
the event is hashed too: it is a hash of the payload, so somebody with the rest of the payload could try all numbers.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from stream.payload import RECEIPT_IDS, Fields, InvalidPayload, decode, decode_exactly
from worker.events.event import StatusEvent
from worker.events.identity import find_parties
from worker.events.numbers import LONGEST, SHORTEST, NumberFinder, digits_of, spelled_pattern
from worker.events.stored import parse_again

PREFIX = "hash:"
HIDDEN = "hidden"
"""In the place of a text that spells a number in a way that cannot be cut out."""
MOST_DEPTH = 32
"""Objects and lists that are nested more deeply are left out."""

_HASH_BYTES = 12
_NUMBER_IN_TEXT = re.compile(rf"(?<!\d)(?:\+|00)?(\d{{{SHORTEST},{LONGEST}}})(?!\d)", re.ASCII)
_LETTERS = str.maketrans("0123456789", "ghijklmnop")
_UNCHANGED = frozenset(
    ("message_uuid", "dispatch_uuid", "status", "timestamp", "message-timestamp", "scts", *RECEIPT_IDS)
)


class NumberHash:
    """The hash with one key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def hash(self, digits: str) -> str:
        """Return the text that the tables have instead of a number, from its digits with the country code."""
        return PREFIX + self._digest(f"number:{digits}")[: 2 * _HASH_BYTES].translate(_LETTERS)

    def hide_reference(self, reference: str) -> Iterator[str]:
        """Yield the texts that the tables may have instead of a reference with the number of a person."""
        if len(digits := digits_of(reference) or "") >= SHORTEST:
            yield self.hash(digits)
        for number in _NUMBER_IN_TEXT.finditer(reference):
            yield f"{reference[: number.start()]}{self.hash(number[1])}{reference[number.end() :]}"

    def hash_id(self, event_id: str) -> str:
        """Return the id that an event with numbers has in the tables."""
        return self._digest(f"event:{event_id}")

    def hide(self, event: StatusEvent) -> StatusEvent:
        """Return the event as the tables have it, with hashes instead of numbers; the same event if it has none."""
        fields = decode(event.raw)
        parties = [*find_parties(fields), *find_parties(event.query), event.to or "", event.sender or ""]
        numbers = {digits for party in parties if len(digits := digits_of(party) or "") >= SHORTEST}
        if not numbers:
            return event
        concealer = _Concealer({digits: self.hash(digits) for digits in numbers})
        query: Any = concealer.conceal(event.query, 1)
        payload = orjson.dumps(concealer.conceal_payload(event.raw, fields))
        hidden = parse_again(payload, replace(event, query=query))
        return replace(hidden, event_id=self.hash_id(event.event_id))

    def _digest(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), hashlib.sha256).hex()


class _FloatFound(Exception):  # noqa: N818 - the caller decodes again
    """A float may not have all digits that were sent."""


class _Concealer:
    """Replaces some numbers, by their digits, in the values and names of a payload."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = hashes
        self._finder = NumberFinder(frozenset(hashes))

    def conceal_payload(self, payload: bytes, fields: Fields) -> Fields:
        """Return the fields of a payload with hashes, and with numbers as texts if one of them has a fraction."""
        try:
            return self._conceal_top(fields)
        except _FloatFound:
            try:
                return self._conceal_top(decode_exactly(payload))
            except InvalidPayload:  # nested too deeply
                texts = {name: value for name, value in fields.items() if isinstance(value, str | int)}
                return self._conceal_top(texts)

    def _conceal_top(self, fields: Fields) -> Fields:
        unchanged = {name: fields[name] for name in _UNCHANGED & fields.keys() if isinstance(fields[name], str | int)}
        others = {name: value for name, value in fields.items() if name not in unchanged}
        return {**unchanged, **self.conceal(others, MOST_DEPTH)}

    def conceal(self, value: Any, depth: int) -> Any:
        """Return a value of JSON with hashes instead of the numbers."""
        if isinstance(value, str):
            return self._conceal_text(value)
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int):
            return self._hashes.get(str(value), value)
        if isinstance(value, float):
            raise _FloatFound
        if not depth:
            return None
        if isinstance(value, list):
            return [self.conceal(item, depth - 1) for item in value]
        return {self._conceal_text(name): self.conceal(item, depth - 1) for name, item in value.items()}

    def _conceal_text(self, text: str) -> str:
        whole = self._hashes.get(digits_of(text) or "")
        if whole is not None:
            return whole
        if not self._finder.is_in(text):
            return text
        for digits, hashed in self._hashes.items():
            text = re.sub(rf"(?<!\d)(\+|00)?{spelled_pattern(digits)}(?!\d)", hashed, text, flags=re.ASCII)
        return HIDDEN if self._finder.is_in(text) else text
