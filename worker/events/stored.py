"""Parses the payload of a stored entry, or one whose receipt is already known. No I/O."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from stream.entry import Entry, InvalidEntry
from worker.events.event import InvalidStatus, StatusEvent
from worker.events.timestamps import EPOCH
from worker.events.vonage import parse


def parse_stored(fields: Mapping[bytes, bytes], entry_id: str) -> StatusEvent | None:
    """Return the event of the fields of an entry; None if the entry or its payload is invalid."""
    try:
        return parse(Entry.from_fields(fields), entry_id)
    except (InvalidEntry, InvalidStatus):
        return None


def parse_again(payload: bytes, receipt: Any) -> StatusEvent:
    """Return the event of a payload. ``receipt`` has the other facts: an event, or a row of ``status_events``."""
    return parse(
        Entry(
            payload=payload,
            content_type="",
            received_ms=(receipt.received_at - EPOCH) // timedelta(milliseconds=1),
            receipt="",
            verified="jwt" if receipt.account_verified else "none",
            account=receipt.account if receipt.account_verified else None,
            application=receipt.application,
            query=urlencode(receipt.query).encode() if receipt.query else None,
        ),
        receipt.entry,
    )
