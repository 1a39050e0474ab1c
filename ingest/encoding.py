"""An entry packed: its field names and values, in turn, as one array of RESP. So it goes to Redis, and into the spool.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from collections.abc import Sequence
from functools import lru_cache

from stream.entry import VERSION, Entry

SENDERS = 256

Packed = tuple[int, bytes]
"""When an entry was received, and the entry packed."""


def _string(part: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(part), part)


def _field(name: bytes, value: bytes) -> bytes:
    return _string(name) + _string(value)


_OTHER_PARTS = 8
_FORM = (
    b"*%d\r\n%b"
    + b"".join(map(_string, (b"v", VERSION, b"payload")))
    + b"$%d\r\n%b\r\n"
    + _string(b"received_ms")
    + b"$%d\r\n%b\r\n"
    + _string(b"receipt")
    + b"$%d\r\n%b\r\n"
)


def pack(entry: Entry) -> Packed:
    """Pack what a webhook can be: the fields of ``Entry.to_fields``, in another order and a third of the time."""
    parts, more = _of_sender(entry.content_type, entry.verified, entry.account, entry.application, entry.signature)
    if entry.query is not None:
        parts, more = parts + 2, more + _field(b"query", entry.query)
    if entry.traceparent is not None:
        parts, more = parts + 2, more + _field(b"traceparent", entry.traceparent.encode())
    payload, received_ms, receipt = entry.payload, b"%d" % entry.received_ms, entry.receipt.encode()
    packed = _FORM % (parts, more, len(payload), payload, len(received_ms), received_ms, len(receipt), receipt)
    return entry.received_ms, packed


@lru_cache(maxsize=SENDERS)
def _of_sender(
    content_type: str, verified: str, account: str | None, application: str | None, signature: str | None
) -> tuple[int, bytes]:
    """Pack what is the same for nearly all that a sender sends; with it, how many parts the entry has in all."""
    fields = {
        "content_type": content_type,
        "verified": verified,
        "account": account,
        "application": application,
        "signature": signature,
    }
    known = {name.encode(): value.encode() for name, value in fields.items() if value is not None}
    return _OTHER_PARTS + 2 * len(known), b"".join(_field(name, value) for name, value in known.items())


def command(parts: Sequence[bytes]) -> bytes:
    """Return what a command begins with."""
    return b"".join(map(_string, parts))


def as_arguments(arrays: Sequence[bytes]) -> tuple[int, bytes]:
    """Return as parts of a command, and how many: of each array the number of its parts, then these."""
    count = 0
    packed: list[bytes] = []
    for array in arrays:
        header, _, parts = array.partition(b"\r\n")
        number = header[1:]
        count += 1 + int(number)
        packed += _string(number), parts
    return count, b"".join(packed)
