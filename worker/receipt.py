"""Delivery receipts of Vonage's SMS API: what is their own. No I/O.

https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts gives the fields, statuses and error codes. They
come as a GET's query, as a form or as JSON; the same receipt has the same ``event_id`` in each.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from worker.status import InvalidStatus

NO_ERROR = "0"

STATUSES = {
    "accepted": "submitted",
    "buffered": "submitted",
    "delivered": "delivered",
    "expired": "rejected",
    "failed": "rejected",
    "rejected": "rejected",
    "unknown": "rejected",
}

ERRORS = {
    "1": "Unknown",
    "2": "Absent subscriber, temporary",
    "3": "Absent subscriber, permanent",
    "4": "Call barred by the user",
    "5": "Portability error",
    "6": "Anti-spam rejection",
    "7": "Handset busy",
    "8": "Network error",
    "9": "Illegal number",
    "10": "Illegal message",
    "11": "Unroutable",
    "12": "Destination unreachable",
    "13": "Subscriber age restriction",
    "14": "Number blocked by the carrier",
    "15": "Prepaid, insufficient funds",
    "50": "Entity filter",
    "51": "Header filter",
    "52": "Content filter",
    "53": "Consent filter",
    "54": "Regulation",
    "99": "General error",
}

_ID_NAMES = ("messageId", "message-id")
_OF_THE_RECEIPT_ONLY = frozenset(("sig", "nonce", "timestamp"))  # signed anew each time, so no part of the identity


def recognise(fields: Mapping[str, Any]) -> bool:
    """Whether this is a delivery receipt: an id under its own name, and none of the Messages API."""
    return "message_uuid" not in fields and any(name in fields for name in _ID_NAMES)


def message_id(fields: Mapping[str, Any]) -> object:
    """Return the id of the SMS part that this receipt is for."""
    return next(fields[name] for name in _ID_NAMES if name in fields)


def event_id(fields: Mapping[str, Any]) -> str:
    """Return the sha256 of the pairs, without what differs from sending to sending, sorted, as compact JSON.

    Raises InvalidStatus for values nested deeper than any receipt's.
    """
    pairs = sorted((name, value) for name, value in fields.items() if name not in _OF_THE_RECEIPT_ONLY)
    try:
        return hashlib.sha256(orjson.dumps(pairs)).hexdigest()
    except orjson.JSONEncodeError:
        raise InvalidStatus("a delivery receipt, but nested too deeply") from None
