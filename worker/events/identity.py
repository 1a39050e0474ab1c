"""Reads which message a payload is about, also if it is not a status. No I/O."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from stream.payload import Fields, InvalidPayload, decode, find_receipt_id, is_receipt

PARTIES = frozenset(("to", "from", "msisdn", "number", "sender", "recipient", "phone_number", "wa_id"))
"""The fields that hold the number of a sender or recipient."""
MOST_DEPTH = 8


class PayloadIdentity(NamedTuple):
    """The id and the reference of a message, as a payload has them, and all fields of the payload."""

    message_uuid: str | None
    client_ref: str | None
    fields: Fields

    @property
    def parties(self) -> Iterator[str]:
        """Yield the values of the party fields, also those of nested objects."""
        yield from find_parties(self.fields)


def read_identity(payload: bytes) -> PayloadIdentity | None:
    """Return the identity of a payload; None if it cannot be decoded."""
    try:
        fields = decode(payload)
    except InvalidPayload:
        return None
    if is_receipt(fields):
        return PayloadIdentity(_text(find_receipt_id(fields)), _text(fields.get("client-ref")), fields)
    return PayloadIdentity(
        _text(fields.get("message_uuid", fields.get("dispatch_uuid"))), _text(fields.get("client_ref")), fields
    )


def find_parties(fields: Fields, depth: int = MOST_DEPTH) -> Iterator[str]:
    """Yield the texts and numbers of the fields in PARTIES, also those of nested objects and lists."""
    for name, value in fields.items():
        values: list[Any] = value if isinstance(value, list) else [value]
        for item in values:
            if isinstance(item, dict):
                if depth:
                    yield from find_parties(item, depth - 1)
            elif name in PARTIES and isinstance(item, str | int):
                yield str(item)


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
