"""Parses every shape of payload that Vonage sends into a StatusEvent. No I/O.

* Messages API v1: https://developer.vonage.com/en/api/messages#message-status
* Messages API v0.1 and Dispatch: ``to`` and ``from`` are objects; Dispatch ends with a report without message_uuid
* SMS API delivery receipts: https://developer.vonage.com/en/api/sms#delivery-receipt (see
  worker.events.delivery_receipt)

The fields of the payload decide which shape it has (see stream.payload). The time to parse a payload is at most in
proportion to its size, and a text longer than its limit is skipped. An optional field that is too long is None; ``raw``
still has it. Only an invalid id or status makes the payload invalid.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from stream.entry import Entry
from stream.payload import Fields, InvalidPayload, decode_exactly, find_receipt_id, is_receipt
from stream.payload import decode as decode_payload
from worker.events import delivery_receipt as receipt
from worker.events.event import EventDraft, InvalidStatus, StatusEvent
from worker.events.text import LONGEST_TEXT, clean
from worker.events.timestamps import from_ms, parse_time
from worker.events.url_query import read_query

LONGEST_ID_BYTES = 255
_SURELY_SHORT = LONGEST_ID_BYTES // 4  # characters, of at most four bytes
LONGEST_STATUS = 255  # characters; the longest that Vonage sends has 13
LONGEST_PRICE = 64  # characters
MOST_ERRORS = 8  # one inside the other; Vonage sends at most two

_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_CODE = re.compile(r"[\w-]+")
_COUNT = re.compile(r"\d{1,6}", re.ASCII)


class InexactNumber(Exception):  # noqa: N818 - the caller decodes again
    """A value is a number that a float may not hold exactly. Decode the payload again with numbers as text."""


def parse(entry: Entry, entry_id: str) -> StatusEvent:
    """Return the event of this entry. Raises InvalidStatus, and only that, if the payload is not a status."""
    received_at = from_ms(entry.received_ms)
    draft, receipt_fields = _read(entry.payload, received_at)
    draft.received_at = received_at
    draft.query = read_query(entry, receipt_fields) if entry.query or receipt_fields else {}
    draft.entry = entry_id
    if entry.verified != "none" and entry.account is not None:
        draft.account, draft.account_verified = clean(entry.account), True
    if entry.application is not None:
        draft.application = clean(entry.application)
    if entry.attempt is not None:
        draft.attempt = entry.attempt + 1
    if entry.replay is not None:
        draft.replayed = True
    draft.raw = entry.payload
    draft.traceparent = entry.traceparent
    draft.__class__ = StatusEvent
    event: StatusEvent = draft
    return event


def _read(payload: bytes, received_at: datetime) -> tuple[Any, Fields | None]:
    """Return the draft of the event with the claimed account, and the fields of the payload if it is a receipt."""
    fields = decode(payload)
    of_receipt = is_receipt(fields)
    contents = _from_receipt if of_receipt else _from_message
    try:
        draft = contents(fields, received_at)
    except InexactNumber:
        draft = contents(_exact(payload, fields), received_at)
    draft.event_id = receipt.event_id(fields, payload) if of_receipt else hashlib.sha256(payload).hexdigest()
    return draft, fields if of_receipt else None


def decode(payload: bytes) -> Fields:
    """Decode a JSON object, a form or a query. Raises InvalidStatus."""
    try:
        return decode_payload(payload)
    except InvalidPayload as exc:
        raise InvalidStatus(str(exc)) from None


def _exact(payload: bytes, fields: Fields) -> Fields:
    """Decode again with numbers as text. If the payload is nested too deeply for that, remove floats instead."""
    try:
        return decode_exactly(payload)
    except InvalidPayload:
        return _without_floats(fields, MOST_ERRORS)


def _without_floats(fields: Fields, depth: int) -> Fields:
    """Remove floats, and objects that are nested more deeply than the parser reads."""
    return {
        name: _without_floats(value, depth - 1) if isinstance(value, dict) else value
        for name, value in fields.items()
        if not isinstance(value, float) and (depth or not isinstance(value, dict))
    }


def _from_message(fields: Fields, received_at: datetime) -> Any:
    message_uuid, is_report = fields.get("message_uuid"), False
    if message_uuid is None:
        message_uuid, is_report = fields.get("dispatch_uuid"), True
    if message_uuid is None:
        raise InvalidStatus("no message_uuid, dispatch_uuid or messageId")
    status = _status(fields.get("status"))
    to, sender = fields.get("to"), fields.get("from")
    draft = EventDraft(  # positional arguments in the order of StatusEvent: keywords take twice as long
        None,
        _id(message_uuid),
        status,
        status,
        parse_time(fields.get("timestamp"), received_at),
        None,
        None,
        "dispatch" if is_report else _text(fields.get("channel")) or _party_type(to) or _party_type(sender),
        _party(to),
        _party(sender),
        _text(fields.get("client_ref")),
    )
    for name, add in _PARTS:
        if name in fields:
            add(draft, fields[name])
    return draft


def _add_error(draft: Any, error: object) -> None:
    draft.error_code, draft.error_text = _error(error)


def _add_usage(draft: Any, usage: object) -> None:
    if isinstance(usage, dict):
        draft.price, draft.currency = _price(usage.get("price")), _text(usage.get("currency"))


def _add_sms(draft: Any, sms: object) -> None:
    if isinstance(sms, dict):
        draft.parts = _count(sms.get("count_total", sms.get("total_count")))


def _add_destination(draft: Any, destination: object) -> None:
    if isinstance(destination, dict):
        draft.network_code = _text(destination.get("network_code"))


def _add_links(draft: Any, links: object) -> None:
    if isinstance(links, dict):
        draft.workflow_id = _text(_object(links, "dispatch").get("dispatch_uuid"))


def _add_dispatch(draft: Any, dispatch_uuid: object) -> None:
    draft.workflow_id = _text(dispatch_uuid) or draft.workflow_id


def _add_workflow(draft: Any, workflow: object) -> None:
    if isinstance(workflow, dict):
        draft.workflow_id = _text(workflow.get("workflow_id")) or _text(workflow.get("id")) or draft.workflow_id
        draft.workflow_item = _text(workflow.get("items_number")) or _text(workflow.get("item_number"))
        draft.workflow_items = _text(workflow.get("items_total")) or _text(workflow.get("total_items"))


# In this order, because the last part with a workflow id decides the id.
_PARTS = (
    ("error", _add_error),
    ("usage", _add_usage),
    ("sms", _add_sms),
    ("destination", _add_destination),
    ("_links", _add_links),
    ("dispatch_uuid", _add_dispatch),
    ("workflow", _add_workflow),
)


def _from_receipt(fields: Fields, received_at: datetime) -> Any:
    provider_status = _status(fields.get("status"))
    code = _text(fields.get("err-code"))
    if code == receipt.NO_ERROR:
        code = None
    sent_at = parse_time(fields.get("message-timestamp"), received_at)
    return EventDraft(
        message_uuid=_id(find_receipt_id(fields)),
        status=receipt.STATUSES.get(provider_status, provider_status),
        provider_status=provider_status,
        occurred_at=sent_at or parse_time(fields.get("scts"), received_at),
        channel="sms",
        to=_text(fields.get("msisdn")),
        sender=_text(fields.get("to")),
        client_ref=_text(fields.get("client-ref")),
        error_code=code,
        error_text=receipt.ERRORS.get(code) if code else None,
        price=_price(fields.get("price")),
        network_code=_text(fields.get("network-code")),
        account=_text(fields.get("api-key")),
    )


def _text(value: object) -> str | None:
    """Return a text or an integer as text; None if it is empty, too long or of another type. Raises InexactNumber."""
    if value is None:
        return None
    if isinstance(value, str):
        return (clean(value) if "\0" in value else value) or None if len(value) <= LONGEST_TEXT else None
    if isinstance(value, float):
        raise InexactNumber
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _object(fields: Fields, name: str) -> Fields:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _id(value: object) -> str:
    text = _text(value)
    if not text or (len(text) > _SURELY_SHORT and len(text.encode()) > LONGEST_ID_BYTES):
        raise InvalidStatus(f"the id of the message is not a text of 1 to {LONGEST_ID_BYTES} bytes")
    return text


def _status(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_STATUS:
        raise InvalidStatus(f"status is not a text of 1 to {LONGEST_STATUS} characters")
    return value.replace("\0", "\ufffd")


def _party(value: object) -> str | None:
    """Return the number or id of a party: v1 sends a text, v0.1 an object."""
    return _text(value.get("number")) or _text(value.get("id")) if isinstance(value, dict) else _text(value)


def _party_type(value: object) -> str | None:
    return _text(value.get("type")) if isinstance(value, dict) else None


def _error(error: object) -> tuple[str | None, str | None]:
    """Return code and text of the outermost error that has either. An error may contain another in its ``error``.

    v1: ``title`` is the code, and so is the end of ``type``; v0.1: ``code`` and ``reason``. A test of the Kotlin SDK
    has the nested form: https://github.com/Vonage/vonage-kotlin-sdk.
    """
    for level in _errors(error):
        title, in_type = _text(level.get("title")), _code_in(_text(level.get("type")))
        code = _text(level.get("code")) or (in_type if in_type and not _is_code(title) else title)
        text = _text(level.get("detail")) or _text(level.get("reason")) or (title if title != code else None)
        if code or text:
            return code, text
    return None, None


def _errors(error: object) -> Iterator[Fields]:
    """Yield the error and the errors inside it, the outermost first."""
    for _ in range(MOST_ERRORS):
        if not isinstance(error, dict):
            return
        yield error
        error = error.get("error")


def _code_in(url: str | None) -> str | None:
    """Return the code at the end of the type of an error, ``https://…#code``."""
    _, mark, code = (url or "").rpartition("#")
    return code if mark and _CODE.fullmatch(code) else None


def _is_code(title: str | None) -> bool:
    return title is not None and title.isdigit()


def _count(value: object) -> int | None:
    text = _text(value)
    return int(text) if text and _COUNT.fullmatch(text) else None


def _price(value: object) -> str | None:
    text = _text(value)
    return text if text and len(text) <= LONGEST_PRICE and _DECIMAL.fullmatch(text) else None
