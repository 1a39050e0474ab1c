"""Delivery receipts of Vonage's SMS API: what is their own. No I/O.

https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts gives the fields, statuses and error codes. They
come as a GET's query, as a form or as JSON; the same receipt has the same ``event_id`` in each.
"""

import hashlib

import orjson

from stream.payload import RECEIPT_IDS, Fields

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

_OF_THE_RECEIPT_ONLY = frozenset(("sig", "nonce", "timestamp"))  # signed anew each time, so no part of the identity


def message_id(fields: Fields) -> object:
    """Return the id of the SMS part that this receipt is for."""
    return next(fields[name] for name in RECEIPT_IDS if name in fields)


def event_id(fields: Fields, payload: bytes) -> str:
    """Return the sha256 of the pairs, without what differs from sending to sending, sorted, as compact JSON.

    Of values that are nested deeper than any receipt's it is that of the payload.
    """
    pairs = sorted((name, value) for name, value in fields.items() if name not in _OF_THE_RECEIPT_ONLY)
    try:
        return hashlib.sha256(orjson.dumps(pairs)).hexdigest()
    except orjson.JSONEncodeError:
        return hashlib.sha256(payload).hexdigest()
