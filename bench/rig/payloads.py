"""The payloads and their signatures: WhatsApp statuses of about 560 bytes, three a message, interleaved."""

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from uuid import UUID

import orjson

from bench.rig.processes import HOST

STATUSES = ("submitted", "delivered", "read")
ACCOUNT, SECRET = "a1b2c3d4", "a-secret-of-the-bench"

_AT_ONCE = 250  # messages of one status in a row; their next status follows in another batch
_BEGAN = datetime(2025, 2, 3, 12, 14, 25, tzinfo=UTC)


def payloads(number: int) -> list[bytes]:
    """Return ``number`` different bodies, the same ones at each call."""
    return list(islice(endless_payloads(), number))


def endless_payloads() -> Iterator[bytes]:
    """Yield different bodies without end, the same ones at each call."""
    for block in count():
        for age, status in enumerate(STATUSES[: block + 1]):
            for message in range((block - age) * _AT_ONCE, (block - age + 1) * _AT_ONCE):
                yield _payload(message, status)


def bearer(payload: bytes, secret: str = SECRET) -> str:
    """Return the Authorization header that the provider would send with this payload now."""
    claims = {
        "iat": int(time.time()),
        "jti": str(UUID(int=0x1A144C10BFDF3FBE8CE511B5C5BA8F24)),
        "iss": "Vonage",
        "payload_hash": hashlib.sha256(payload).hexdigest(),
        "api_key": ACCOUNT,
        "application_id": str(UUID(int=0xAAAAAAAABBBB4CCC8DDD0123456789AB)),
    }
    signed = b".".join(_base64url(orjson.dumps(part)) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"Bearer {(signed + b'.' + _base64url(hmac.digest(secret.encode(), signed, 'sha256'))).decode()}"


def make_request(path: str, payload: bytes) -> bytes:
    """Return the signed POST of this payload, as the provider sends it."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: bench\r\nAccept: */*\r\n"
        f"Authorization: {bearer(payload)}\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


def _base64url(part: bytes) -> bytes:
    return urlsafe_b64encode(part).rstrip(b"=")


def _payload(message: int, status: str) -> bytes:
    time = _BEGAN + timedelta(milliseconds=37 * message, seconds=3 * STATUSES.index(status))
    body = {
        "message_uuid": str(UUID(int=0xAAAAAAAA_BBBB_4CCC_8DDD_000000000000 + 7919 * message)),
        "to": f"4477009{message % 100_000:05}",
        "from": "447700900001",
        "timestamp": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "status": status,
        "channel": "whatsapp",
        "client_ref": f"order-{message:08}",
        "workflow": {
            "workflow_id": f"3TcNjguHxr2vcCZ9Ddsnq6tw8yQUp{message:08}",
            "items_number": "1",
            "items_total": "2",
        },
        "usage": {"currency": "EUR", "price": "0.0333"},
        "whatsapp": {
            "conversation": {"id": f"{message:032x}", "origin": {"type": "utility"}},
            "pricing": {"type": "regular", "pricing_model": "PMP", "category": "utility"},
            "waba_id": "104996122399160",
        },
    }
    return orjson.dumps(body)
