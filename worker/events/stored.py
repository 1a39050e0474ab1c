"""Parses a payload again, with the facts of a receipt that is already known. No I/O."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from stream.entry import Entry
from worker.events.event import StatusEvent
from worker.events.vonage import parse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_again(payload: bytes, receipt: Any) -> StatusEvent:
    """Return the event of a payload. ``receipt`` has the other facts: an event, or a row of ``status_events``."""
    return parse(
        Entry(
            payload=payload,
            content_type="",
            received_ms=(receipt.received_at - _EPOCH) // timedelta(milliseconds=1),
            receipt="",
            verified="jwt" if receipt.account_verified else "none",
            account=receipt.account if receipt.account_verified else None,
            application=receipt.application,
            query=urlencode(receipt.query).encode() if receipt.query else None,
        ),
        receipt.entry,
    )
