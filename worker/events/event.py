"""`StatusEvent`, a parsed payload: one status of one message. No I/O."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, make_dataclass
from datetime import datetime
from typing import Any

SUBMITTED, DELIVERED, READ = "submitted", "delivered", "read"
REJECTED, UNDELIVERABLE = "rejected", "undeliverable"


class InvalidStatus(ValueError):  # noqa: N818 - the reason of the dead letter
    """The payload is not a status of a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent:
    """One status of one message.

    Texts are as sent, except that U+0000 is replaced by U+FFFD. None means that the payload does not have the field.
    ``raw`` is the payload; ``worker.events.vonage.decode`` returns all its fields, also unknown ones. Times are aware
    and in UTC.
    """

    event_id: str
    """sha256 of the payload in hex, or of the documented fields of a delivery receipt. A payload that is sent twice has
    the same id both times, so a handler can detect repeats."""
    message_uuid: str
    status: str
    provider_status: str
    """The status as sent. It differs from ``status`` only for delivery receipts of the SMS API."""
    occurred_at: datetime | None
    """When the status was reached, by the clock of the provider; None if the payload has no readable time."""
    received_at: datetime
    """When ingest first received the payload, to the millisecond."""
    entry: str
    """The first entry with this payload, as ``shard/ms-seq``."""
    channel: str | None = None
    to: str | None = None
    sender: str | None = None
    """The sender of the message: ``from`` in the payload, which is a reserved word in Python."""
    client_ref: str | None = None
    account: str | None = None
    account_verified: bool = False
    """Whether a signature proves ``account``. Otherwise the payload only claims it."""
    application: str | None = None
    error_code: str | None = None
    error_text: str | None = None
    price: str | None = None
    """A decimal number exactly as sent."""
    currency: str | None = None
    parts: int | None = None
    network_code: str | None = None
    workflow_id: str | None = None
    """Equal for all attempts of one failover."""
    workflow_item: str | None = None
    workflow_items: str | None = None
    query: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The parameters of the URL of the first webhook with this payload, without the fields of a delivery receipt. No
    signature covers them, and they do not change the event id."""
    raw: bytes = field(default=b"", repr=False)
    attempt: int = field(default=1, compare=False)
    """The number of this attempt of the handler of the group, from 1."""
    replayed: bool = field(default=False, compare=False)
    """Whether this is a copy that a replay made."""
    traceparent: str | None = field(default=None, compare=False, repr=False)
    """The W3C trace context of the receipt; None unless ingest traces the webhook."""

    @property
    def time(self) -> datetime:
        """When the status was reached, or else when the payload was received."""
        return self.occurred_at or self.received_at


def _draft_of(frozen: type) -> Any:
    """Return a writable class with the fields of ``frozen``. Setting ``__class__`` turns an instance into a ``frozen``.

    This takes a fourth of the time in which a frozen dataclass fills its fields.
    """
    columns = [
        (each.name, Any, field(default=None if each.default is MISSING else each.default)) for each in fields(frozen)
    ]
    return make_dataclass("EventDraft", columns, slots=True, eq=False, repr=False)


EventDraft = _draft_of(StatusEvent)
"""A StatusEvent while the parser fills it."""


_DIGIT_RUN = re.compile(r"\d{6,}")


def mask(number: str | None) -> str | None:
    """Mask the digits of a number or id for logs and listings, except the last four (the last third of a short one)."""
    if number is None:
        return None
    digits = len(re.findall(r"\d", number))
    hidden = digits - min(4, digits // 3)
    return re.sub(r"\d", "*", number, count=hidden) if hidden else number


def mask_numbers(text: str) -> str:
    """Mask all but the end of each long run of digits, which may be a phone number."""
    return _DIGIT_RUN.sub(lambda run: mask(run.group()) or "", text)
