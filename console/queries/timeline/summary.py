"""Sums up the webhooks of a message for people: one sentence for each webhook, one state for each group. No I/O."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

GRAVEST_FIRST = (
    "missing",
    "dead letter",
    "delayed",
    "retrying",
    "replaying",
    "in flight",
    "unread",
    "dead letter removed",
    "replayed",
    "handled",
    "settled",
    "repeated",
    "filtered",
)

_QUIET = ("settled", "repeated", "filtered", "unread")

_SENTENCES = {
    "missing": "{names} never read it",
    "dead letter": "{names} gave it up",
    "delayed": "{names} will try again",
    "retrying": "{names} {verb} trying again",
    "replaying": "a replay gives it to {names}",
    "in flight": "{names} {has} it in flight",
    "unread": "{names} {has} not read it yet",
    "dead letter removed": "{names} gave it up, and the dead letter was removed",
    "replayed": "settled by {names} after a replay",
    "handled": "handled by {names} after a retry or replay",
    "settled": "settled by {names}",
    "repeated": "{names} knew it already",
    "filtered": "{names} filtered it out",
}


def sum_up_webhook(webhook: Mapping[str, Any]) -> str:
    """Return the state of a webhook as one sentence without a full stop, the gravest first."""
    groups = webhook["groups"]
    if not groups:
        return "no group reads the stream yet"
    by_state: dict[str, list[str]] = {}
    for group in groups:
        by_state.setdefault(group["state"], []).append(group["group"])
    if list(by_state) == ["settled"] and len(groups) > 1:
        return f"settled by all {len(groups)} groups"
    parts = [_fill(_SENTENCES[state], by_state[state]) for state in GRAVEST_FIRST if state in by_state]
    return ", ".join(parts[:2]) if len(parts) <= 2 else f"{parts[0]}, {parts[1]}, …"  # noqa: PLR2004 - a short line


def has_trouble(webhook: Mapping[str, Any]) -> bool:
    """Whether some group has not simply settled the webhook, known it or not read it yet."""
    return any(group["state"] not in _QUIET or group["outcomes"] for group in webhook["groups"])


def sum_up_groups(webhooks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the gravest state of each group, its known attempts, and its dead letters of the message."""
    rows: dict[str, dict[str, Any]] = {}
    for webhook in webhooks:
        for group in webhook["groups"]:
            row = rows.setdefault(
                group["group"], {"group": group["group"], "state": "filtered", "attempts": None, "dead_letters": []}
            )
            row["state"] = min(row["state"], group["state"], key=GRAVEST_FIRST.index)
            if group["attempts"] is not None:
                row["attempts"] = (row["attempts"] or 0) + group["attempts"]
            if group["dead_letter"]:
                row["dead_letters"].append(group["dead_letter"])
    return list(rows.values())


def list_milestones(statuses: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return when each status was first reached, and the seconds since the one before."""
    times = [(name, datetime.fromisoformat(text)) for name, text in statuses.items()]
    befores = [at for _, at in (times[:1] + times)]
    return [
        {"status": name, "at": at, "seconds": (at - before).total_seconds()}
        for (name, at), before in zip(times, befores, strict=False)
    ]


def join_names(names: Sequence[str]) -> str:
    """Return the names as a list in a sentence: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def _fill(sentence: str, names: Sequence[str]) -> str:
    is_one = len(names) == 1
    return sentence.format(names=join_names(names), verb="is" if is_one else "are", has="has" if is_one else "have")
