"""The fields, statuses and error codes of delivery receipts of the SMS API of Vonage. No I/O.

https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts lists them. A receipt comes as the query of a
GET, as a form or as JSON, and has the same ``event_id`` in each of these forms.
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

_CHANGING = frozenset(("sig", "nonce", "timestamp"))  # differ each time that a receipt is sent
_IDENTITY = frozenset(
    (
        *RECEIPT_IDS,
        "msisdn",
        "to",
        "network-code",
        "price",
        "status",
        "scts",
        "err-code",
        "api-key",
        "client-ref",
        "message-timestamp",
    )
)


def event_id(fields: Fields, payload: bytes) -> str:
    """Return the sha256 of the documented fields, sorted, as compact JSON.

    Fields that differ each time that the receipt is sent do not count, nor do the parameters of the URL, which a GET
    mixes with the fields of the receipt. If values are nested too deeply for JSON, return the sha256 of the payload.
    """
    pairs = sorted((name, value) for name, value in fields.items() if name in _IDENTITY)
    try:
        return hashlib.sha256(orjson.dumps(pairs)).hexdigest()
    except orjson.JSONEncodeError:
        return hashlib.sha256(payload).hexdigest()


def other_fields(fields: Fields) -> Fields:
    """Return the fields that are not fields of a receipt."""
    return {name: value for name, value in fields.items() if name not in _IDENTITY | _CHANGING}
