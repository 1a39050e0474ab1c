"""Sample payloads for tests, one for every channel and status. No I/O.

They follow the examples of the specification: https://developer.vonage.com/en/api/messages#message-status
All numbers are in the range that Ofcom reserves for fiction, 447700900000 to 447700900999.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from worker.events.event import DELIVERED, READ, REJECTED, SUBMITTED, UNDELIVERABLE

MESSAGE_UUID = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
TO, SENDER = "447700900000", "447700900001"

RECEIPT, DISPATCH = "receipt", "dispatch"
"""The channels of two payloads without one: the delivery receipt of the SMS API and the final report of Dispatch."""

_DOCS = "https://developer.vonage.com/api-errors/messages"
_ERRORS: Mapping[str, Mapping[str, Any]] = {
    REJECTED: {"type": f"{_DOCS}#1120", "title": 1120, "detail": "Illegal Sender Address", "instance": "bf0ca0bf927b"},
    UNDELIVERABLE: {
        "type": f"{_DOCS}#1260",
        "title": "1260",
        "detail": "Destination unreachable",
        "instance": "0a0b0c",
    },
}
_SMS = {"destination": {"network_code": "23410"}, "sms": {"count_total": "2"}}
_WHATSAPP = {
    "whatsapp": {
        "conversation": {"id": "ebe2398cdaa37a0899ca5268b987b0c6", "origin": {"type": "utility"}},
        "pricing": {"type": "regular", "pricing_model": "PMP", "category": "utility"},
    },
    "profile": {"name": "Jane Smith"},
}
_CHANNELS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "sms": (SUBMITTED, "0.0333", _SMS),
    "mms": (SUBMITTED, "0.2450", {"destination": {"network_code": "310260"}}),
    "rcs": (DELIVERED, "0.0410", {}),
    "whatsapp": (DELIVERED, "0.0591", _WHATSAPP),
    "messenger": (DELIVERED, "0.0008", {}),
    "viber_service": (DELIVERED, "0.0243", {}),
}
"""For each channel: the status with a price, the price, and the fields that only this channel has."""
_RECEIPTS = {SUBMITTED: ("accepted", "0"), DELIVERED: ("delivered", "0"), REJECTED: ("failed", "6")}
_SECONDS = {SUBMITTED: "00", DELIVERED: "03", READ: "09", REJECTED: "02", UNDELIVERABLE: "05"}


def _statuses_of(channel: str) -> list[str]:
    read = [] if channel in ("sms", "mms") else [READ]
    return [SUBMITTED, DELIVERED, *read, REJECTED, UNDELIVERABLE]


STATUSES: Mapping[str, list[str]] = {
    **{channel: _statuses_of(channel) for channel in _CHANNELS},
    RECEIPT: list(_RECEIPTS),
    DISPATCH: ["completed", "error"],
}
"""The statuses of each channel."""


def fields(channel: str, status: str) -> dict[str, Any]:
    """Return the fields of a sample payload. Raises ValueError if the channel or status is not in STATUSES."""
    if status not in STATUSES.get(channel, ()):
        raise ValueError(f"no sample of channel {channel!r} with status {status!r}; use one of: {dict(STATUSES)}")
    if channel == RECEIPT:
        return _receipt(status)
    if channel == DISPATCH:
        return _report(status)
    charged, price, more = _CHANNELS[channel]
    usage = {"usage": {"currency": "EUR", "price": price}} if status == charged else {}
    error = {"error": _ERRORS[status]} if status in _ERRORS else {}
    return {
        "message_uuid": MESSAGE_UUID,
        "to": TO,
        "from": SENDER,
        "timestamp": f"2025-02-03T12:14:{_SECONDS[status]}Z",
        "status": status,
        "channel": channel,
        "client_ref": "order-7",
        **usage,
        **error,
        **more,
    }


def payload(channel: str, status: str, **changes: Any) -> bytes:
    """Return a sample payload. Each change replaces a field, or removes it if it is None. Raises as ``fields``.

    Pass a field with a reserved name as in ``**{"from": "AcmeInc"}``.
    """
    changed = fields(channel, status) | changes
    return orjson.dumps({name: value for name, value in changed.items() if value is not None})


def _receipt(status: str) -> dict[str, Any]:
    word, code = _RECEIPTS[status]
    return {
        "msisdn": TO,
        "to": "AcmeInc",
        "network-code": "23410",
        "messageId": "0A0000001234567B",
        "price": "0.03330000",
        "status": word,
        "scts": "2502031214",
        "err-code": code,
        "api-key": "abcd1234",
        "client-ref": "order-7",
        "message-timestamp": "2025-02-03 12:14:25",
    }


def _report(status: str) -> dict[str, Any]:
    return {
        "template": "failover",
        "status": status,
        "dispatch_uuid": "eeeeeeee-bbbb-4ccc-8ddd-0123456789ab",
        "timestamp": "2025-02-03T12:14:25Z",
        "_links": {"messages": [{"href": f"https://api.example.test/v1/messages/{MESSAGE_UUID}"}]},
    }
