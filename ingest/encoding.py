"""Encodes entries as RESP arrays of alternating field names and values, for Redis and for the spool.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from stream.entry import VERSION, Entry

SENDERS = 256

Packed = tuple[int, bytes]
"""The receive time of an entry in ms, and the packed entry."""


def _string(part: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(part), part)


def _field(name: bytes, value: bytes) -> bytes:
    return _string(name) + _string(value)


_TRACEPARENT = re.compile(rb"\r\n\$11\r\ntraceparent\r\n\$55\r\n([0-9a-f-]{55})\r\n")
_PAYLOAD = b"".join(map(_string, (b"v", VERSION, b"payload")))
"""The parts right before the payload. The word ``payload`` alone may also be the value of another field."""
_OTHER_PARTS = 8
_FORM = (
    b"*%d\r\n%b"
    + _PAYLOAD
    + b"$%d\r\n%b\r\n"
    + _string(b"received_ms")
    + b"$%d\r\n%b\r\n"
    + _string(b"receipt")
    + b"$%d\r\n%b\r\n%b"
)


def pack(entry: Entry) -> Packed:
    """Pack an entry of a webhook: the fields of ``Entry.to_fields``, in a third of the time.

    They are in the order that ``Entry.from_flat`` reads fastest, except that a trace context comes first.
    """
    parts, more = _of_sender(entry.content_type, entry.verified, entry.account, entry.application, entry.signature)
    trace = b""
    if entry.traceparent is not None:
        parts, trace = parts + 2, _field(b"traceparent", entry.traceparent.encode())
    if entry.query is not None:
        parts, more = parts + 2, more + _field(b"query", entry.query)
    if entry.probe is not None:
        parts, more = parts + 2, more + _field(b"probe", entry.probe.encode())
    payload, received_ms, receipt = entry.payload, b"%d" % entry.received_ms, entry.receipt.encode()
    head = parts, trace, len(payload), payload
    return entry.received_ms, _FORM % (*head, len(received_ms), received_ms, len(receipt), receipt, more)


@lru_cache(maxsize=SENDERS)
def _of_sender(
    content_type: str, verified: str, account: str | None, application: str | None, signature: str | None
) -> tuple[int, bytes]:
    """Pack the fields that a sender rarely changes; return the number of parts of the whole entry, and these fields."""
    fields = {
        "content_type": content_type,
        "verified": verified,
        "account": account,
        "application": application,
        "signature": signature,
    }
    encoded = {name.encode(): value.encode() for name, value in fields.items() if value is not None}
    return _OTHER_PARTS + 2 * len(encoded), b"".join(_field(name, value) for name, value in encoded.items())


def find_traceparents(arrays: Iterable[bytes]) -> list[str]:
    """Return the trace contexts of packed entries. The payload follows them, and may contain such a text itself."""
    matches = (_TRACEPARENT.search(array, 0, array.find(_PAYLOAD)) for array in arrays)
    return [match[1].decode() for match in matches if match]


def find_payload(array: bytes) -> bytes:
    """Return the payload of a packed entry. The fields before it contain no line breaks."""
    digits, _, rest = array.partition(_PAYLOAD)[2].partition(b"\r\n")
    return rest[: int(digits[1:])] if digits[1:].isdigit() else b""


def command(parts: Sequence[bytes]) -> bytes:
    """Encode the leading parts of a command, without the array header."""
    return b"".join(map(_string, parts))


def as_arguments(arrays: Sequence[bytes]) -> tuple[int, bytes]:
    """Convert packed arrays to arguments of a command: per array the number of its parts, then the parts.

    Returns the number of arguments and the encoded arguments.
    """
    count = 0
    packed: list[bytes] = []
    for array in arrays:
        header, _, parts = array.partition(b"\r\n")
        number, argument = _read_number(header)
        count += 1 + number
        packed += argument, parts
    return count, b"".join(packed)


@lru_cache
def _read_number(header: bytes) -> tuple[int, bytes]:
    """Return the number of parts in the header of an array, and this number as an argument."""
    return int(header[1:]), _string(header[1:])
