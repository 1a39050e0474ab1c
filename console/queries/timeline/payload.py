"""Shows a payload as text. No I/O.

Revealed, it is the text as sent. Otherwise every number that can be a phone number is masked, JSON is indented, and a
form has one field a line; ids and times stay.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from stream.payload import InvalidPayload, decode
from worker.events.event import mask

MOST_CHARACTERS = 65_536
DEEPEST = 32
"""Objects that are nested more deeply are shown as an ellipsis."""

_PLAIN_NAMES = frozenset(
    (
        *("message_uuid", "dispatch_uuid", "messageId", "message-id", "workflow_id", "id"),
        *("client_ref", "client-ref", "timestamp", "message-timestamp", "scts"),
    )
)
"""Fields that hold no phone number."""
_KEPT = r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b\d{4}-\d\d-\d\d(?=\b|T)"
_NUMBER = re.compile(rf"({_KEPT})|\d(?:[ ().-]{{0,2}}\d){{5,}}")


def show_payload(payload: bytes, *, reveal: bool) -> str:
    """Return at most MOST_CHARACTERS of the payload."""
    text = payload.decode(errors="backslashreplace")
    if not reveal:
        try:
            text = _format(decode(payload), is_json=payload.lstrip()[:1] == b"{")
        except InvalidPayload:
            text = mask_text(text)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


def mask_text(text: str) -> str:
    """Mask every number in a text that can be a phone number, also one with blanks or dashes."""
    return _NUMBER.sub(lambda match: match.group(1) or (mask(match.group()) or "").replace("*", "•"), text)


def _format(fields: Mapping[str, Any], *, is_json: bool) -> str:
    masked = _mask_fields(fields, DEEPEST)
    if is_json:
        return orjson.dumps(masked, option=orjson.OPT_INDENT_2).decode()
    return "\n".join(f"{name}={value}" for name, value in masked.items())


def _mask_fields(fields: Mapping[str, Any], depth: int) -> dict[str, Any]:
    return {
        mask_text(name): value if name in _PLAIN_NAMES and isinstance(value, str) else _mask_value(value, depth)
        for name, value in fields.items()
    }


def _mask_value(value: Any, depth: int) -> Any:
    if isinstance(value, dict | list) and not depth:
        return "…"
    if isinstance(value, dict):
        return _mask_fields(value, depth - 1)
    if isinstance(value, list):
        return [_mask_value(item, depth - 1) for item in value]
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, int | float) and (masked := mask_text(str(value))) != str(value):
        return masked
    return value
