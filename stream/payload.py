"""What a payload holds, by the one rule that every part of Ackstream goes by. No I/O.

The payload itself says what it is. The Content-Type is not asked: curl and misconfigured proxies get it wrong, and a
status refused for it would be lost. Ingest and worker must agree on which payloads are delivery receipts, for these
are signed in another way: what one takes for a receipt, the other never takes for anything else.

Decoding takes time and memory in proportion to the payload's length, whatever the payload holds.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

BOM = b"\xef\xbb\xbf"
RECEIPT_IDS = ("messageId", "message-id")

_BLANK = b" \t\r\n"
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""One escape of a JSON string; group 1 is a surrogate without its other half."""
_PERCENT = re.compile(rb"%([0-9a-fA-F]{2})")

Fields = Mapping[str, Any]


class InvalidPayload(ValueError):  # noqa: N818 - named for what it is
    """The payload holds no fields; the text says why, and has nothing of the payload in it."""


def decode(payload: bytes) -> Fields:
    """Decode a JSON object, or else a form or query; of a name that comes twice the last one counts.

    What is no Unicode becomes U+FFFD: half of a surrogate pair, and in JSON bytes that are not UTF-8. A form's names
    and values that are not UTF-8 are read as Latin-1, which older systems send. Raises InvalidPayload, and nothing
    else.
    """
    body = payload if payload[:1] == b"{" else payload.removeprefix(BOM).strip(_BLANK)
    if body[:1] not in (b"{", b"["):
        return decode_form(body)
    try:
        return _check_object(orjson.loads(body))
    except orjson.JSONDecodeError as exc:
        reason = f"not valid JSON: {exc.msg} at character {exc.pos}"  # exc itself holds the payload
    repaired = _repair(body)
    try:
        return _check_object(orjson.loads(repaired))
    except orjson.JSONDecodeError:  # a number that is larger than a float holds is JSON all the same
        return _decode_numbers_as_text(repaired, reason)


def decode_exactly(payload: bytes) -> Fields:
    """Decode a JSON object that ``decode`` has taken, with every number as the text that was sent.

    Takes five times as long. Raises InvalidPayload for one that is nested about a thousand deep.
    """
    return _decode_numbers_as_text(_repair(payload.removeprefix(BOM)), "JSON, but nested too deeply")


def _decode_numbers_as_text(body: bytes, reason: str) -> Fields:
    try:
        return _check_object(json.loads(body, parse_float=str, parse_int=str, parse_constant=_refuse_constant))
    except (ValueError, RecursionError) as exc:
        raise exc if isinstance(exc, InvalidPayload) else InvalidPayload(reason) from None


def _refuse_constant(name: str) -> object:
    raise ValueError(name)  # Python's own NaN and Infinity are no JSON


def is_receipt(fields: Fields) -> bool:
    """Whether this is a delivery receipt: an id under its own name, and none of the Messages API."""
    return "message_uuid" not in fields and any(name in fields for name in RECEIPT_IDS)


def _check_object(decoded: object) -> Fields:
    if not isinstance(decoded, dict):
        raise InvalidPayload("JSON, but no object")
    return decoded


def _repair(body: bytes) -> bytes:
    """Put U+FFFD for bytes that are not UTF-8 and for surrogates that have lost their other half."""
    text = body.decode(errors="replace").encode()
    return _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], text)


def decode_form(body: bytes) -> Mapping[str, str]:
    """Decode ``name=value&name=value`` as browsers write it: https://url.spec.whatwg.org/#urlencoded-parsing."""
    pairs = (pair.partition(b"=") for pair in body.split(b"&") if pair)
    return {_unescape(name): _unescape(value) for name, _, value in pairs}


def _unescape(escaped: bytes) -> str:
    raw = escaped.replace(b"+", b" ")
    if b"%" in raw:
        raw = _PERCENT.sub(lambda percent: bytes((int(percent[1], 16),)), raw)
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        is_cut = exc.end == len(raw) and exc.end - exc.start > 1  # inside a character, an emoji for example
        return raw.decode(errors="replace") if is_cut else raw.decode("latin-1")
