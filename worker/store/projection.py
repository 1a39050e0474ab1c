"""Computes the state of a message from its events. No I/O.

The state is a function of the set of events, so any order, any repetition and any number of writers give the same
state. The current event is the greatest by (rank, time, received, event_id). Every other column has its value from the
greatest event that has one. A price of 0 never replaces another price, because Vonage sends it with ``read`` of a
message that was charged before: https://developer.vonage.com/en/api/messages

Few events of a message decide its state. Without the other events the state, also with events that come later, is the
same. So the work for an event does not grow with the number of events before it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
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

    @property
    def first_at(self) -> datetime:
        """When the first status was reached."""
        return next(iter(self.statuses.values()))


def sort_key(event: StatusEvent) -> tuple[int, datetime, datetime, str]:
    """Return the sort key of an event of a message. No two events have the same key."""
    received_at = event.received_at
    return RANKS.get(event.status, UNKNOWN_RANK), event.occurred_at or received_at, received_at, event.event_id


def merge_receipts(a: StatusEvent, b: StatusEvent) -> StatusEvent:
    """Merge two receipts of one event: time and entry of the first, a verified account rather than a claimed one."""
    first, best = min(a, b, key=_age), max(a, b, key=_proof)
    return replace(first, account=best.account, account_verified=best.account_verified, application=best.application)


def is_repeat(event: StatusEvent, receipt: Any) -> bool:
    """Whether the event changes nothing in the stored event with its id. ``receipt`` is that event or its row."""
    return _age(receipt) <= _age(event) and _proof(receipt) >= _proof(event)


def _age(receipt: Any) -> tuple[datetime, str]:
    return receipt.received_at, receipt.entry


def _proof(receipt: Any) -> tuple[bool, str, str]:
    return receipt.account_verified, receipt.account or "", receipt.application or ""


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


def extend(state: MessageState, event: StatusEvent) -> MessageState | None:
    """Return the state with one more event, as ``project`` computes it from all events.

    Return None if the state does not have enough facts for that. It has them for most events that are the first with
    their status. Such an event is not stored yet.
    """
    statuses, time = state.statuses, event.time
    key = RANKS.get(event.status, UNKNOWN_RANK), time
    current = RANKS.get(state.status, UNKNOWN_RANK), state.status_at
    if event.status in statuses or len(statuses) >= MOST_DECIDING or key == current:
        return None
    is_greatest = key > current
    values, others = _CARRIED_VALUES(event), _CARRIED_VALUES(state)
    carried = _fill(values, others)
    if not is_greatest and carried != _fill(others, values):
        return None
    usage, account = _extend_usage(state, event, is_greatest=is_greatest), state.account
    if event.account is not None and event.account != account:
        if account is not None and not (is_greatest and event.account_verified):
            return None
        account = event.account
    if usage is None:
        return None
    greatest: Any = event if is_greatest else state
    channel, to, sender, client_ref, application, *columns = carried
    return MessageState(
        state.message_uuid,
        greatest.status,
        max(key, current)[1],
        dict(sorted([*statuses.items(), (event.status, time)], key=itemgetter(1, 0))),
        channel,
        to,
        sender,
        client_ref,
        account,
        application,
        greatest.error_code,
        greatest.error_text,
        *usage,
        *columns,
    )


def _extend_usage(
    state: MessageState, event: StatusEvent, *, is_greatest: bool
) -> tuple[str | None, str | None] | None:
    """Return price and currency of the state with one more event; None as ``extend``."""
    price, currency = state.price, state.currency
    if event.price is None and event.currency is None:
        return price, currency
    if currency is not None and currency != event.currency:
        return None
    if event.price is None or event.price == price:
        return price, event.currency
    if price is None or _is_zero(price) != _is_zero(event.price):
        return event.price if price is None or _is_zero(price) else price, event.currency
    return (event.price, event.currency) if is_greatest else None


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
