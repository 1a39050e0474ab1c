"""From the events of a message to its state. No I/O.

The state is a function of the set of events, so any order, any repetition and any number of writers give the same. The
current event is the greatest by (rank, time, received, event_id); every other column has its value from the greatest
event that carries one. A price of 0 comes after every other price: https://developer.vonage.com/en/api/messages has it
beside ``read`` of a message that was charged before.

Few events of a message decide its state. Those that do not may be left out: the state of the others, and of any event
that comes later, is the same. So the work for an event does not grow with the events before it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

from worker.events.event import (
    DELIVERED,
    READ,
    REJECTED,
    SUBMITTED,
    UNDELIVERABLE,
    StatusEvent,
)

RANKS = {SUBMITTED: 1, DELIVERED: 2, UNDELIVERABLE: 2, REJECTED: 2, READ: 3}
UNKNOWN_RANK = RANKS[SUBMITTED]  # a word that is not known yet may mean anything: of it and submitted the later counts

MOST_STATUSES = 100
"""Of a message that has reached more statuses, those that it reached first are listed in ``statuses``."""

_CARRIED = (
    "channel",
    "to",
    "sender",
    "client_ref",
    "application",
    "parts",
    "network_code",
    "workflow_id",
    "workflow_item",
    "workflow_items",
)
_CARRIED_VALUES = attrgetter(*_CARRIED)


class MessageState(NamedTuple):
    """What is known of one message, in the order of the columns of its row; a tuple is made at the least cost.

    ``statuses``: when each status was first reached, in the order of their time, the first MOST_STATUSES of them.
    """

    message_uuid: str
    status: str
    status_at: datetime
    statuses: Mapping[str, datetime]
    channel: str | None
    to: str | None
    sender: str | None
    client_ref: str | None
    account: str | None
    application: str | None
    error_code: str | None
    error_text: str | None
    price: str | None
    currency: str | None
    parts: int | None
    network_code: str | None
    workflow_id: str | None
    workflow_item: str | None
    workflow_items: str | None


def sort_key(event: StatusEvent) -> tuple[int, datetime, datetime, str]:
    """Return the key by which one event of a message is greater than another; no two events have the same."""
    received_at = event.received_at
    return RANKS.get(event.status, UNKNOWN_RANK), event.occurred_at or received_at, received_at, event.event_id


def merge_receipts(one: StatusEvent, other: StatusEvent) -> StatusEvent:
    """Merge two receipts of one event: first receipt's time and entry, a verified account before a claimed one."""
    first = min(one, other, key=lambda event: (event.received_at, event.entry))
    known = max(
        one,
        other,
        key=lambda event: (
            event.account_verified,
            event.account or "",
            event.application or "",
        ),
    )
    return replace(
        first,
        account=known.account,
        account_verified=known.account_verified,
        application=known.application,
    )


def dedupe(events: Iterable[StatusEvent]) -> dict[str, StatusEvent]:
    """Return the events by their id, receipts of the same one joined."""
    found: dict[str, StatusEvent] = {}
    for event in events:
        known = found.get(event.event_id)
        found[event.event_id] = event if known is None else merge_receipts(known, event)
    return found


def project(events: Collection[StatusEvent]) -> MessageState:
    """Return the state of the one message that these distinct events, at least one, belong to."""
    greatest_first = sorted(events, key=sort_key, reverse=True)
    current = greatest_first[0]
    verified = [event for event in greatest_first if event.account_verified]
    channel, to, sender, client_ref, application, *others = _carried(greatest_first)
    return MessageState(  # in the order of its fields: by their names it takes twice as long
        current.message_uuid,
        current.status,
        current.time,
        {status: event.time for status, event in _reached(greatest_first).items()},
        channel,
        to,
        sender,
        client_ref,
        next((event.account for event in verified or greatest_first if event.account is not None), None),
        application,
        current.error_code,
        current.error_text,
        *_usage(greatest_first),
        *others,
    )


def _carried(greatest_first: Sequence[StatusEvent]) -> Sequence[Any]:
    """Return the values of the columns in _CARRIED, each from the first event that has one."""
    values: Sequence[Any] = _CARRIED_VALUES(greatest_first[0])
    for event in greatest_first[1:]:
        if None not in values:
            break
        values = _fill(values, _CARRIED_VALUES(event))
    return values


def find_deciding(events: Collection[StatusEvent], least: int = 1) -> set[str]:
    """Return the ids of those of a message's events that its state depends on, now or with later events.

    If they are fewer than ``least``, other events fill up, the greatest first.
    They are at most 16 and MOST_STATUSES. ``project`` of them equals that of all; if one of them changes by a receipt
    that came earlier, all have to be looked at.
    """
    greatest_first = sorted(events, key=sort_key, reverse=True)
    deciding = {event.event_id for event in _reached(greatest_first).values()}
    known: Sequence[Any] = ()
    for event in greatest_first:
        facts = _facts(event)
        more = _fill(known, facts) if known else facts
        if more != known:
            deciding.add(event.event_id)
        known = more
    others = (event.event_id for event in greatest_first if event.event_id not in deciding)
    return deciding | set(islice(others, max(0, least - len(deciding))))


def _facts(event: StatusEvent) -> Sequence[Any]:
    """Return what a state may have from an event; of each fact the greatest event that has it decides."""
    price = event.price
    charged = None if price is None or _is_zero(price) else price
    verified = event.account_verified or None
    return [*_CARRIED_VALUES(event), event.account, event.currency, price, charged, verified]


def _fill(values: Sequence[Any], others: Sequence[Any]) -> Sequence[Any]:
    """Return the values, each that is None from the others."""
    return [other if value is None else value for value, other in zip(values, others, strict=True)]


def _usage(greatest_first: Sequence[StatusEvent]) -> tuple[str | None, str | None]:
    """Return price and currency of the event that says what was charged."""
    charged: StatusEvent | None = None
    currency: str | None = None
    for event in greatest_first:
        currency = currency or event.currency
        price = event.price
        if price is not None and (charged is None or (_is_zero(charged.price or "") and not _is_zero(price))):
            charged = event
    return (charged.price, charged.currency or currency) if charged else (None, currency)


def _is_zero(price: str) -> bool:
    """Whether a decimal number is 0, in whatever way that is written."""
    return not price.lower().partition("e")[0].strip("+-.0")


def _reached(greatest_first: Iterable[StatusEvent]) -> dict[str, StatusEvent]:
    """Return the earliest event of each status, in the order of their time, the first MOST_STATUSES of them."""
    earliest = {event.status: event for event in greatest_first}  # a status has one rank, so its last one is its first
    return dict(sorted(earliest.items(), key=lambda item: (item[1].time, item[0]))[:MOST_STATUSES])
