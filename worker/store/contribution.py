"""Computes the contribution of a message to the roll-ups from its state. No I/O.

``messages.counted`` has the contribution that the roll-ups contain, as one text. A writer that changes the state adds
the new contribution and subtracts the text, in the transaction that writes both. So the sums depend only on the states,
not on the order or number of changes.

The hour of a message is that of its first status. Its time to delivery is in buckets of 10 %, so their middle is at
most 5 % off.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache, reduce
from hashlib import blake2b
from operator import add, or_
from typing import NamedTuple

from worker.events.event import DELIVERED, READ, REJECTED, SUBMITTED, UNDELIVERABLE
from worker.store.projection import MessageState

FINAL = (DELIVERED, READ, REJECTED, UNDELIVERABLE)
"""A message with another current status is open."""
COUNTS = ("messages", SUBMITTED, *FINAL, "open", "priced")
"""The counts of a roll-up. Each has one bit in a contribution."""

UNITS = 10**9
"""Units of price in one unit of a currency."""
MOST_PRICE = 10_000
"""A higher price is not added, so a sum of prices fits into 64 bits."""

FIRST_BUCKET_SECONDS = 0.1
"""Bucket 0 has the times up to this one."""
LAST_BUCKET = 170  # about 12 days

AGAIN = "+"
"""Added to a contribution that equals the one before, so that each write of a state changes ``counted``. An earlier
version does not change it: a trigger of the database marks the rows that it writes."""

LONGEST_LABEL = 64  # characters

_GROWTH = math.log(1.1)
_FIRST_DAY = datetime(1, 1, 1, tzinfo=UTC)
_BITS = {name: 1 << place for place, name in enumerate(COUNTS)}
_OPEN = _BITS["messages"] | _BITS["open"]
_REACHED = {status: _BITS[status] for status in (SUBMITTED, *FINAL)}
_REACHED_NOW = {status: _BITS["messages"] | _BITS[status] for status in FINAL} | {SUBMITTED: _OPEN | _BITS[SUBMITTED]}
_VECTORS = [tuple(mask >> place & 1 for place in range(len(COUNTS))) for mask in range(1 << len(COUNTS))]


class Dimension(NamedTuple):
    """The values of messages that are counted together, each cut to LONGEST_LABEL; a missing one is ``""``.

    The id is a hash of the values, so writers need no common counter.
    """

    id: int
    channel: str
    account: str
    application: str
    network: str
    currency: str
    error_code: str


class Contribution(NamedTuple):
    """The contribution of one message, as ``messages.counted`` has it, and its dimension."""

    text: str
    dimension: Dimension


@dataclass(frozen=True, slots=True)
class Changes:
    """The amounts to add to the roll-ups. No row has only zeros."""

    dimensions: Sequence[Dimension]
    """Those of the messages that were changed, by id."""
    statuses: Mapping[tuple[datetime, int], Sequence[int]]
    """COUNTS and units of price by hour and dimension."""
    deliveries: Mapping[tuple[datetime, int, int], int]
    """Numbers of messages by hour, dimension and bucket."""


@dataclass(slots=True)
class ContributionTally:
    """Collects the changes of the contributions of a batch of messages."""

    _weights: dict[str, int] = field(default_factory=dict)
    _dimensions: dict[int, Dimension] = field(default_factory=dict)

    def replace(self, counted: str | None, contribution: Contribution) -> str:
        """Replace a contribution that the roll-ups contain, or none, and return the text for ``messages.counted``."""
        text, dimension = contribution
        if text == counted:
            text += AGAIN
        weights = self._weights
        weights[text] = weights.get(text, 0) + 1
        if counted:
            weights[counted] = weights.get(counted, 0) - 1
        self._dimensions[dimension.id] = dimension
        return text

    def sum(self) -> Changes:
        """Return all changes."""
        heads, deliveries = Counter[str](), Counter[tuple[str, str]]()
        for contribution, weight in self._weights.items():
            head, _, bucket = contribution.rstrip(AGAIN).partition(" ")
            heads[head] += weight
            if bucket:
                deliveries[head, bucket] += weight
        statuses: dict[tuple[datetime, int], Sequence[int]] = {}
        keys = {}
        for head, weight in heads.items():
            hour, reached, dimension, units = map(int, head.split(":"))
            key = keys[head] = _start(hour), dimension
            amounts = [weight * bit for bit in _VECTORS[reached]]
            amounts.append(weight * units)
            before = statuses.get(key)
            statuses[key] = amounts if before is None else list(map(add, before, amounts))
        buckets = Counter[tuple[datetime, int, int]]()
        for (head, bucket), weight in deliveries.items():
            buckets[*keys[head], int(bucket)] += weight
        return Changes(
            sorted(self._dimensions.values()),
            {key: amounts for key, amounts in statuses.items() if any(amounts)},
            {key: number for key, number in buckets.items() if number},
        )


def find_contribution(state: MessageState) -> Contribution:
    """Return the contribution of a message with this state."""
    dimension, label, priced = _classify(
        state.channel,
        state.account,
        state.application,
        state.network_code,
        state.currency,
        state.error_code,
        state.price,
    )
    statuses = state.statuses
    first = next(iter(statuses.values()))
    head = f"{first.toordinal() * 24 + first.hour}:{priced | _find_reached(state.status, *statuses)}:{label}"
    delivered, submitted = statuses.get(DELIVERED), statuses.get(SUBMITTED)
    if delivered is None or submitted is None:
        return Contribution(head, dimension)
    return Contribution(f"{head} {find_bucket((delivered - submitted).total_seconds())}", dimension)


@lru_cache(maxsize=1024)
def _find_reached(current: str, *statuses: str) -> int:
    """Return the bits of a message with this current status that reached these statuses."""
    return reduce(or_, (_REACHED.get(status, 0) for status in statuses), _REACHED_NOW.get(current, _OPEN))


def find_bucket(seconds: float) -> int:
    """Return the bucket of a time to delivery."""
    if seconds <= FIRST_BUCKET_SECONDS:
        return 0
    return min(LAST_BUCKET, 1 + int(math.log(seconds / FIRST_BUCKET_SECONDS) / _GROWTH))


def bucket_seconds(bucket: int) -> float:
    """Return the middle of a bucket."""
    return FIRST_BUCKET_SECONDS * math.exp((bucket - 0.5) * _GROWTH) if bucket else FIRST_BUCKET_SECONDS


@lru_cache(maxsize=4096)
def _start(hour: int) -> datetime:
    return _FIRST_DAY + timedelta(hours=hour - 24)


@lru_cache(maxsize=4096)
def _classify(*texts: str | None) -> tuple[Dimension, str, int]:
    """Return the dimension of these values; it and the units of the price, the last text, as a label; and the bit."""
    *values, price = texts
    labels = [(value or "")[:LONGEST_LABEL] for value in values]
    digest = blake2b("\0".join(labels).encode("utf-8", "replace"), digest_size=8).digest()
    dimension = Dimension(int.from_bytes(digest, signed=True), *labels)
    amount = Decimal(price or "Infinity")
    if abs(amount) > MOST_PRICE:
        return dimension, f"{dimension.id}:0", 0
    return dimension, f"{dimension.id}:{(amount * UNITS).to_integral_value():f}", _BITS["priced"]
