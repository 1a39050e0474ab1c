"""Payloads that are made to be expensive: each JSON type and each long text in each field that the parser reads."""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import quote_from_bytes

from worker.events.event import InvalidStatus

LONGEST = 128 * 1024
"""Bytes of a payload that ingest takes by default."""

MESSAGE_PATHS = (
    "message_uuid",
    "dispatch_uuid",
    "status",
    "timestamp",
    "channel",
    "to",
    "to.number",
    "to.type",
    "from",
    "from.id",
    "client_ref",
    "error",
    "error.title",
    "error.type",
    "error.code",
    "error.detail",
    "error.error.error",
    "usage.price",
    "usage.currency",
    "sms.count_total",
    "destination.network_code",
    "workflow",
    "workflow.workflow_id",
    "workflow.items_total",
    "_links.dispatch.dispatch_uuid",
    "unknown",
)
RECEIPT_PATHS = (
    "messageId",
    "message-id",
    "status",
    "msisdn",
    "to",
    "network-code",
    "price",
    "scts",
    "err-code",
    "api-key",
    "client-ref",
    "message-timestamp",
    "timestamp",
    "sig",
    "unknown",
)
SHORT = (b"null", b"true", b"0", b"-1", b"1.50", b"18446744073709551616", b"1e999", b'""', b'"\\u0000"', b"[]", b"{}")
UNITS = (b"1", b"x", b" ", b"#", b"#a", b"-", b"0.", b"e9", b"2020-01-01 ", b"1:", b"\\u0000", b"\\ud83d", b"\xff")
"""The units of long texts: digits, and starts of a match that a regular expression could try again and again."""
ENDINGS = (b"", b"x", b"\\n")

_OPEN = {b"[": b"]", b'{"error":': b"}"}


def put(path: str, value: bytes, *, receipt: bool = False) -> bytes:
    """Return a status with this JSON at this path."""
    name, *inner = path.split(".")
    for part in reversed(inner):
        value = b'{"%b":%b}' % (part.encode(), value)
    rest = {b"messageId" if receipt else b"message_uuid": b'"m"', b"status": b'"delivered"'}
    fields = {**rest, name.encode(): value}
    return b"{" + b",".join(b'"%b":%b' % pair for pair in fields.items()) + b"}"


def long_text(unit: bytes, size: int, ending: bytes = b"") -> bytes:
    """Return a JSON text of about this many bytes."""
    return b'"' + unit * (size // len(unit)) + ending + b'"'


def nest(opening: bytes, depth: int) -> bytes:
    """Return JSON nested so deep."""
    return opening * depth + b"1.5" + _OPEN[opening] * depth


def values(size: int) -> Iterator[bytes]:
    """Yield every kind of JSON, up to about this many bytes."""
    yield from SHORT
    for unit in UNITS:
        for ending in ENDINGS:
            yield long_text(unit, size, ending)
    yield b"9" * size  # a number
    yield b"0." + b"9" * size
    yield b"[" + b"[]," * (size // 3) + b"1.5]"
    yield b"[" + b"1.5," * (size // 4) + b"1]"
    yield b"{" + b",".join(b'"%x":[]' % n for n in range(size // 10)) + b"}"
    for opening in _OPEN:
        for depth in (200, 900, 1000, size // (2 * len(opening))):
            yield nest(opening, depth)


def forms(size: int) -> Iterator[bytes]:
    """Yield forms of about this many bytes."""
    receipt = b"messageId=m&status=delivered&"
    yield from (b"&" * size, b"=" * size, b"%" * size, b"+" * size, b"%f0" * (size // 3), b"a&" * (size // 2))
    yield receipt + b"&".join(b"%x" % n for n in range(size // 5))
    for name in RECEIPT_PATHS:
        yield from (
            receipt + name.encode() + b"=" + quote_from_bytes(unit * (size // 3)).encode()[:size] for unit in UNITS
        )


def corpus(size: int = LONGEST) -> Iterator[bytes]:
    """Yield all of them, each at most about this many bytes and one more field long."""
    for value in values(size):
        yield from (put(path, value) for path in MESSAGE_PATHS)
        yield from (put(path, value, receipt=True) for path in RECEIPT_PATHS)
    yield from forms(size)


def cpu_seconds(parse: Callable[[bytes], object], payload: bytes, *, runs: int = 3) -> float:
    """Return the least CPU time that this takes, whether it is a status or not."""
    best = float("inf")
    for _ in range(runs):
        began = time.thread_time()
        with suppress(InvalidStatus):
            parse(payload)
        best = min(best, time.thread_time() - began)
    return best


def peak_bytes(parse: Callable[[bytes], object], payload: bytes) -> int:
    """Return how much memory this takes at most."""
    gc.collect()
    tracemalloc.start()
    try:
        with suppress(InvalidStatus):
            parse(payload)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
