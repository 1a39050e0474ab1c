"""Shares of messages, and comparisons with the time before."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from decimal import Decimal
from math import ceil
from typing import Any

from console.queries.statuses.figures import Counts, ErrorCount, Group

NOT_DELIVERED = ("rejected", "undeliverable", "open")
RISING_FACTOR = 2
RISING_LEAST = 20


def share(part: float, whole: float) -> float | None:
    """Return the part as a share of 1; None of nothing."""
    return part / whole if whole else None


def describe_counts(counts: Counts) -> dict[str, Any]:
    """Return the counts, and each as a share of all messages."""
    numbers = asdict(counts)
    return {**numbers, "shares": {name: share(number, counts.messages) for name, number in numbers.items()}}


def compare(counts: Counts, previous: Counts) -> dict[str, float | None]:
    """Return the change of the number of messages as a share, and of the delivered share in points of 1."""
    delivered, before = (share(each.delivered, each.messages) for each in (counts, previous))
    return {
        "messages": share(counts.messages - previous.messages, previous.messages),
        "delivered": None if delivered is None or before is None else delivered - before,
    }


def describe_reads(channels: Sequence[Group]) -> dict[str, float | None]:
    """Return how many messages were read, of those on channels that report reads in this time."""
    reporting = [group.counts for group in channels if group.counts.read]
    messages = sum(counts.messages for counts in reporting)
    read = sum(counts.read for counts in reporting)
    return {"read": read, "messages": messages, "share": share(read, messages)}


def list_groups(groups: Sequence[Group], most: int) -> list[dict[str, Any]]:
    """Return the groups with their shares; beyond ``most`` they are summed up as one, whose label is None."""
    rows = [{"label": group.label, **describe_counts(group.counts)} for group in groups[:most]]
    if others := groups[most:]:
        rows.append({"label": None, "others": len(others), **describe_counts(add_up(others))})
    return rows


def add_up(groups: Sequence[Group]) -> Counts:
    """Return the counts of all groups together."""
    return Counts(*map(sum, zip(*(astuple(group.counts) for group in groups), strict=True)))


def scale_bars(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the share at which the bars of messages that did not arrive end: a whole percent, at least 1."""
    most = max((sum(row["shares"][name] or 0 for name in NOT_DELIVERED) for row in rows), default=0)
    return max(ceil(most * 100), 1) / 100


def is_rising(error: ErrorCount, messages: int, messages_before: int) -> bool:
    """Whether a code has a much larger share of all messages than in the time before."""
    now, before = share(error.messages, messages), share(error.previous, messages_before)
    return error.messages >= RISING_LEAST and now is not None and before is not None and now >= RISING_FACTOR * before


def add_costs(costs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the sum for each currency, as decimal text."""
    sums: dict[str, Decimal] = {}
    for cost in costs:
        sums[cost["currency"]] = sums.get(cost["currency"], Decimal()) + Decimal(cost["amount"])
    return [(currency, f"{amount:f}") for currency, amount in sums.items()]
