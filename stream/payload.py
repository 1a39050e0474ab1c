"""Decodes payloads for every part of Ackstream. No I/O.

The format is detected from the payload. The Content-Type is ignored: curl and misconfigured proxies send a wrong one,
and a status that is refused for it would be lost. Ingest and worker use the same code to recognise delivery receipts,
because receipts are signed in another way: a payload must not count as a receipt in one and as a status in the other.

Decoding takes time and memory proportional to the length of the payload, even for hostile ones.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import orjson

BOM = b"\xef\xbb\xbf"
RECEIPT_IDS = ("messageId", "message-id")
FORM = "application/x-www-form-urlencoded"
"""The content type of a form, and of an entry whose payload is the query of a GET."""

_BLANK = b" \t\r\n"
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""One escape of a JSON string; group 1 matches a lone surrogate."""
_PERCENT = re.compile(rb"%([0-9a-fA-F]{2})")

MOST_NESTED = 1024
"""How deep objects and arrays may be nested: the limit of orjson. That of Python's json depends on its version."""

Fields = Mapping[str, Any]


class InvalidPayload(ValueError):  # noqa: N818 - named for what it is
    """The payload cannot be decoded to fields. The text gives the reason and quotes nothing of the payload."""


def decode(payload: bytes) -> Fields:
    """Decode a JSON object, a form or a query string; the last value of a repeated name wins.

    Lone surrogates become U+FFFD, and in JSON also bytes that are not UTF-8. A form's names and values that are not
    UTF-8 are decoded as Latin-1, because older systems send it. Raises only InvalidPayload.
    """
    body = payload if payload[:1] == b"{" else payload.removeprefix(BOM).strip(_BLANK)
    if body[:1] not in (b"{", b"["):
        return decode_form(body)
    try:
        return _check_object(orjson.loads(body))
    except orjson.JSONDecodeError as exc:
        reason = f"not valid JSON: {exc.msg} at character {exc.pos}"  # exc itself quotes the payload
    repaired = _repair(body)
    try:
        return _check_object(orjson.loads(repaired))
    except orjson.JSONDecodeError:  # a number larger than a float is valid JSON
        return _decode_numbers_as_text(repaired, reason)


def decode_exactly(payload: bytes) -> Fields:
    """Decode a JSON object that ``decode`` accepts, and keep every number as the text that was sent.

    Takes five times as long as ``decode``. Raises InvalidPayload if the object is nested about a thousand deep.
    """
    return _decode_numbers_as_text(_repair(payload.removeprefix(BOM)), "JSON, but nested too deeply")


def _decode_numbers_as_text(body: bytes, reason: str) -> Fields:
    try:
        value = json.loads(body, parse_float=str, parse_int=str, parse_constant=_refuse_constant)
        _check_depth(value)
        return _check_object(value)
    except (ValueError, RecursionError) as exc:
        raise exc if isinstance(exc, InvalidPayload) else InvalidPayload(reason) from None


def _check_depth(value: Any) -> None:
    """Raise ValueError if an object or array is nested too deeply."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MOST_NESTED:
            raise ValueError("nested too deeply")
        items = [item for each in level for item in (each.values() if isinstance(each, dict) else each)]
        level = [item for item in items if isinstance(item, dict | list)]


def _refuse_constant(name: str) -> object:
    raise ValueError(name)  # Python accepts NaN and Infinity, JSON does not


def is_receipt(fields: Fields) -> bool:
    """Whether this is a delivery receipt: it has an id of the SMS API and no ``message_uuid`` of the Messages API."""
    return "message_uuid" not in fields and any(name in fields for name in RECEIPT_IDS)


def find_receipt_id(fields: Fields) -> object:
    """Return the id of the SMS part of a delivery receipt."""
    return next(fields[name] for name in RECEIPT_IDS if name in fields)


def find_message_id(payload: bytes) -> str | None:
    """Return the id of the message that a payload is about, for comparisons only; None without one."""
    try:
        value = _find_message_id(decode(payload))
        if isinstance(value, float):  # decoded inexactly: a whole number of more than 64 bits
            value = _find_message_id(decode_exactly(payload))
    except InvalidPayload:
        return None
    return str(value) if isinstance(value, str | int) else None


def choose_shard(payload: bytes, used: int) -> int:
    """Return the number of the shard that has all entries of a payload's message in order mode: 0 without a message."""
    message = None if used == 1 else find_message_id(payload)
    return 0 if message is None else crc32(message.encode(errors="replace")) % used


def _find_message_id(fields: Fields) -> object:
    if is_receipt(fields):
        return find_receipt_id(fields)
    value = fields.get("message_uuid")
    return fields.get("dispatch_uuid") if value is None else value


def _check_object(decoded: object) -> Fields:
    if not isinstance(decoded, dict):
        raise InvalidPayload("JSON, but not an object")
    return decoded


def _repair(body: bytes) -> bytes:
    """Replace bytes that are not UTF-8, and lone surrogates, with U+FFFD."""
    text = body.decode(errors="replace").encode()
    return _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], text)


def decode_form(body: bytes) -> Mapping[str, str]:
    """Decode ``name=value&name=value`` as browsers encode it: https://url.spec.whatwg.org/#urlencoded-parsing."""
    pairs = (pair.partition(b"=") for pair in body.split(b"&") if pair)
    return {_unescape(name): _unescape(value) for name, _, value in pairs}


def _unescape(escaped: bytes) -> str:
    raw = escaped.replace(b"+", b" ")
    if b"%" in raw:
        raw = _PERCENT.sub(lambda percent: bytes((int(percent[1], 16),)), raw)
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        is_cut = exc.end == len(raw) and exc.end - exc.start > 1  # cut inside a UTF-8 character, such as an emoji
        return raw.decode(errors="replace") if is_cut else raw.decode("latin-1")
