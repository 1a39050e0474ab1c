"""What a payload holds, by the one rule that every part of Ackstream goes by. No I/O.

The payload itself says what it is. The Content-Type is not asked: curl and misconfigured proxies get it wrong, and a
status refused for it would be lost. Ingest and worker must agree on which payloads are delivery receipts, for these
are signed in another way: what one takes for a receipt, the other never takes for anything else.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson

BOM = b"\xef\xbb\xbf"
RECEIPT_IDS = ("messageId", "message-id")

_BLANK = b" \t\r\n"

Fields = Mapping[str, Any]


class InvalidPayload(ValueError):  # noqa: N818 - named for what it is
    """The payload holds no fields; the text says why, and has nothing of the payload in it."""


def decode(payload: bytes) -> Fields:
    """Decode a JSON object, or else a form or query; of a name that comes twice the last one counts.

    Raises InvalidPayload, and nothing else.
    """
    body = payload if payload[:1] == b"{" else payload.removeprefix(BOM).strip(_BLANK)
    if body[:1] in (b"{", b"["):
        try:
            decoded = orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            raise InvalidPayload(f"not valid JSON: {exc.msg} at character {exc.pos}") from None  # exc holds the payload
        if not isinstance(decoded, dict):
            raise InvalidPayload("JSON, but no object")
        return decoded
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise InvalidPayload("neither a JSON object nor a form") from None
    return dict(pairs)


def is_receipt(fields: Fields) -> bool:
    """Whether this is a delivery receipt: an id under its own name, and none of the Messages API."""
    return "message_uuid" not in fields and any(name in fields for name in RECEIPT_IDS)
