"""The exact numbers of Overview and Statuses: as the pages' JSON has them, and as they follow from webhooks."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tests.support.http.counted_webhooks import (
    ExpectedMessage,
    SignedWebhook,
    count_open,
    count_statuses,
    split_messages,
)

WORKERS = 2
FUNNEL = ("messages", "submitted", "delivered", "read", "rejected", "undeliverable")
Row = dict[str, Any]


def pick_overview(overview: Any) -> Row:
    """Return the numbers of Overview that have an exact value."""
    return {
        "entries": overview["flow"]["redis"]["entries"],
        "spooled": overview["flow"]["spool"]["entries"],
        "processes": overview["flow"]["ingest"]["up"],
        "kept": next(
            (text for text in overview["verdict"]["sentences"] if "webhooks of the last" in text), ""
        ).partition(" webhooks ")[0],
        "groups": {
            row["name"]: [row[name] for name in ("workers", "in_flight", "outstanding", "retries", "replays", "dead")]
            for row in overview["groups"]
        },
        "failures": [[row["group"], row["attempt"], row["is_dead"]] for row in overview["failures"]],
    }


def expect_overview(webhooks: Sequence[SignedWebhook]) -> Row:
    """Return the same numbers for webhooks that are all handled."""
    rejected = sum(webhook.simulated.status == "rejected" for webhook in webhooks)
    return {
        "entries": len(webhooks),
        "spooled": 0,
        "processes": 1,
        "kept": f"All {len(webhooks):,}",
        "groups": {
            "again": [WORKERS, 0, 0, 0, 0, 0],
            "orders": [WORKERS, 0, 0, 0, 0, rejected],
            "store": [WORKERS, 0, 0, 0, 0, 0],
        },
        "failures": [["orders", 1, True]] * min(rejected, 5),
    }


def pick_statuses(statuses: Any) -> Row:
    """Return the numbers of Statuses that have an exact value."""
    return {
        "counts": {name: statuses["counts"][name] for name in (*FUNNEL, "open")},
        "split": {row["label"]: {name: row[name] for name in (*FUNNEL, "open")} for row in statuses["groups"]},
        "errors": {error["code"]: error["messages"] for error in statuses["errors"]["codes"]},
        "costs": {
            (cost["label"], cost["currency"]): (cost["messages"], Decimal(cost["amount"])) for cost in statuses["costs"]
        },
        "open": {name: count["number"] for name, count in statuses["open"].items()},
        "reads": (statuses["reads"]["read"], statuses["reads"]["messages"]),
    }


def expect_statuses(messages: Sequence[ExpectedMessage], by: str) -> Row:
    """Return the same numbers for these messages."""
    funnel = (*FUNNEL, "open")
    groups = split_messages(messages, by)
    priced = {
        (label, currency): [message.price for message in group if message.currency == currency]
        for label, group in groups.items()
        for currency in ("EUR", "USD")
    }
    channels = {name: count_statuses(group) for name, group in split_messages(messages, "channel").items()}
    readers = [counts for counts in channels.values() if counts["read"]]
    ages = count_open(messages, datetime.now(UTC))
    return {
        "counts": {name: count_statuses(messages)[name] for name in funnel},
        "split": {label: {name: count_statuses(group)[name] for name in funnel} for label, group in groups.items()},
        "errors": dict(Counter(message.error for message in messages if message.error)),
        "costs": {key: (len(prices), sum(prices)) for key, prices in priced.items() if prices},
        "open": {name: ages[name] for name in ("under_1h", "from_1h_to_24h", "over_24h")},
        "reads": (sum(counts["read"] for counts in readers), sum(counts["messages"] for counts in readers)),
    }
