"""Computes the state of a message from its events. No I/O.

The state is a function of the set of events, so any order, any repetition and any number of writers give the same
state. The current event is the greatest by (rank, time, received, event_id). Every other column has its value from the
greatest event that has one. A price of 0 never replaces another price, because Vonage sends it with ``read`` of a
message that was charged before: https://developer.vonage.com/en/api/messages

Few events of a message decide its state. Without the other events the state, also with events that come later, is the
same. So the work for an event does not grow with the number of events before it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from operator import attrgetter, itemgetter
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
UNKNOWN_RANK = RANKS[SUBMITTED]  # between an unknown status and submitted, the later one counts

MOST_DECIDING = 8
LEAST_DECIDING = 4
"""At least this many events stay marked, so a message with fewer deciding events has only deciding events."""

MOST_STATUSES = 100
"""``statuses`` lists at most this many statuses, those that the message reached first."""

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
INDEXED = ("to", "client_ref", "error_code")
"""The columns of a state that indexes of messages contain. The others that they contain are first_at and stale."""
_INDEXED_VALUES = attrgetter(*INDEXED)
_STATUS = attrgetter("status")


class MessageState(NamedTuple):
    """The state of one message, in the order of the columns of its row. A tuple is the cheapest type to create.

    ``statuses`` has the time at which each status was first reached, the earliest first, at most MOST_STATUSES.
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
    """Return the sort key of an event of a message. No two events have the same key."""
    received_at = event.received_at
    return RANKS.get(event.status, UNKNOWN_RANK), event.occurred_at or received_at, received_at, event.event_id


def merge_receipts(a: StatusEvent, b: StatusEvent) -> StatusEvent:
    """Merge two receipts of one event: time and entry of the first, a verified account rather than a claimed one."""
    first = min(a, b, key=lambda event: (event.received_at, event.entry))
    best = max(
        a,
        b,
        key=lambda event: (
            event.account_verified,
            event.account or "",
            event.application or "",
        ),
    )
    return replace(
        first,
        account=best.account,
        account_verified=best.account_verified,
        application=best.application,
    )


def dedupe(events: Iterable[StatusEvent]) -> dict[str, StatusEvent]:
    """Return the events by their id, with the receipts of each event merged."""
    by_id: dict[str, StatusEvent] = {}
    for event in events:
        previous = by_id.get(event.event_id)
        by_id[event.event_id] = event if previous is None else merge_receipts(previous, event)
    return by_id


def project(events: Collection[StatusEvent]) -> MessageState:
    """Return the state of the message of these events: at least one, all with distinct ids."""
    greatest_first = sorted(events, key=sort_key, reverse=True) if len(events) > 1 else list(events)
    current = greatest_first[0]
    channel, to, sender, client_ref, application, *columns = _carry_values(greatest_first)
    return MessageState(  # positional arguments: keywords take twice as long
        current.message_uuid,
        current.status,
        current.time,
        _time_of_each_status(greatest_first),
        channel,
        to,
        sender,
        client_ref,
        current.account if current.account_verified else _find_account(greatest_first),
        application,
        current.error_code,
        current.error_text,
        *_usage(greatest_first),
        *columns,
    )


def _find_account(greatest_first: Sequence[StatusEvent]) -> str | None:
    """Return the account of the first event with a verified account, or else of the first with an account."""
    verified = [event for event in greatest_first if event.account_verified]
    return next((event.account for event in verified or greatest_first if event.account is not None), None)


def _carry_values(greatest_first: Sequence[StatusEvent]) -> Sequence[Any]:
    """Return the values of the columns in _CARRIED, each from the first event that has one."""
    values: Sequence[Any] = _CARRIED_VALUES(greatest_first[0])
    for event in greatest_first[1:]:
        if None not in values:
            break
        others = _CARRIED_VALUES(event)
        if others != values:
            values = _fill(values, others)
    return values


def find_deciding(events: Collection[StatusEvent], least: int = 1) -> set[str]:
    """Return the ids of the events of a message that its state depends on, now or with later events.

    If there are fewer than ``least``, the greatest other events are added. There are at most 16 and MOST_STATUSES.
    ``project`` gives the same state for them as for all events. If an earlier receipt changes one of them, all events
    must be read again.
    """
    greatest_first = sorted(events, key=sort_key, reverse=True)
    deciding = {event.event_id for event in _first_of_each_status(greatest_first).values()}
    filled: Sequence[Any] = ()
    for event in greatest_first:
        facts = _facts(event)
        more = _fill(filled, facts) if filled else facts
        if more != filled:
            deciding.add(event.event_id)
        filled = more
    rest = (event.event_id for event in greatest_first if event.event_id not in deciding)
    return deciding | set(islice(rest, max(0, least - len(deciding))))


def _facts(event: StatusEvent) -> Sequence[Any]:
    """Return the facts of an event that a state may use. The greatest event with a fact decides it."""
    price = event.price
    charged = None if price is None or _is_zero(price) else price
    verified = event.account_verified or None
    return [*_CARRIED_VALUES(event), event.account, event.currency, price, charged, verified]


def _fill(values: Sequence[Any], defaults: Sequence[Any]) -> Sequence[Any]:
    """Return the values, with the default in the place of each None."""
    return [default if value is None else value for value, default in zip(values, defaults, strict=True)]


def _usage(greatest_first: Sequence[StatusEvent]) -> tuple[str | None, str | None]:
    """Return price and currency of the greatest event with a price, if possible one other than 0."""
    charged: StatusEvent | None = None
    currency: str | None = None
    for event in greatest_first:
        currency = currency or event.currency
        price = event.price
        if price is not None and (charged is None or (_is_zero(charged.price or "") and not _is_zero(price))):
            charged = event
    return (charged.price, charged.currency or currency) if charged else (None, currency)


def _is_zero(price: str) -> bool:
    """Whether a decimal number is 0, in any notation."""
    return not price.lower().partition("e")[0].strip("+-.0")


def _time_of_each_status(greatest_first: Iterable[StatusEvent]) -> dict[str, datetime]:
    """Return the time at which each status was first reached, ordered by time, at most MOST_STATUSES."""
    times = {event.status: event.occurred_at or event.received_at for event in greatest_first}
    if len(times) == 1:
        return times
    return dict(sorted(times.items(), key=itemgetter(1, 0))[:MOST_STATUSES])


def _first_of_each_status(greatest_first: Iterable[StatusEvent]) -> dict[str, StatusEvent]:
    """Return the earliest event of each status, ordered by time, at most MOST_STATUSES."""
    earliest = {
        event.status: event for event in greatest_first
    }  # a status has one rank, so its last event here is its earliest
    return dict(sorted(earliest.items(), key=lambda item: (item[1].time, item[0]))[:MOST_STATUSES])


@dataclass(slots=True)
class BatchMessage:
    """One message of a batch, while it is written."""

    message_uuid: str
    arrived: dict[str, StatusEvent]
    has_state: bool = False
    """Whether its row has a state that is not stale. The row can be missing if rows were deleted by hand."""
    counted: str | None = None
    """Its contribution that the roll-ups contain."""
    deciding: Mapping[str, StatusEvent] = field(default_factory=dict)
    """The stored deciding events, and the events of the batch."""
    changed: Mapping[str, StatusEvent] = field(default_factory=dict)
    """Events that are new or have another receipt."""
    before: Collection[StatusEvent] = ()
    """The deciding events of the stored state."""
    undecisive: Mapping[str, StatusEvent] = field(default_factory=dict)
    """Events of the batch that are stored and do not decide."""
    read: Collection[str] = ()
    """Ids of the stored deciding events, if there are at least LEAST_DECIDING."""

    def may_have_undecisive(self) -> bool:
        """Whether there can be stored events that do not decide."""
        return bool(self.read)

    def take_arrived(self) -> bool:
        """Merge the events of the batch into the stored ones. Return whether a deciding event has another receipt."""
        if not self.deciding:
            self.deciding = self.changed = self.arrived
            return False
        self.before = self.deciding.values()
        is_moved = False
        changed: dict[str, StatusEvent] = {}
        for event_id, event in self.arrived.items():
            decided = self.deciding.get(event_id)
            before = decided or self.undecisive.get(event_id)
            merged = event if before is None else merge_receipts(before, event)
            if merged != before:
                changed[event_id] = merged
                is_moved |= decided is not None
        self.changed = changed
        self.deciding = {**self.deciding, **changed}
        return is_moved

    def is_likely_new(self) -> bool:
        """Whether its row likely does not exist yet."""
        return SUBMITTED in map(_STATUS, self.arrived.values())

    def needs_row(self) -> bool:
        """Whether to write its row."""
        return bool(self.changed) or not self.has_state

    def keeps_indexed(self, values: tuple[Any, ...], first_at: datetime) -> bool:
        """Whether its row has these values of INDEXED and this ``first_at``, because all its events had them."""
        return (
            self.has_state
            and bool(self.before)
            and all(_INDEXED_VALUES(event) == values for event in self.before)
            and first_at == min(event.time for event in self.before)
        )

    def is_stored(self) -> bool:
        """Whether events of it were stored before. Call it after ``take_arrived``."""
        return self.changed is not self.arrived

    def reduce(self) -> None:
        """Drop events that do not decide if there are more than MOST_DECIDING; keep at least LEAST_DECIDING."""
        if len(self.deciding) <= MOST_DECIDING:
            return
        ids = find_deciding(self.deciding.values(), LEAST_DECIDING)
        self.deciding = {event_id: event for event_id, event in self.deciding.items() if event_id in ids}
