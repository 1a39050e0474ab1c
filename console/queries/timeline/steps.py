"""Orders the facts about one webhook by time, for people. No I/O."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_FIRST_ATTEMPT = "settled"
_OPEN = ("unread", "in flight", "replaying", "retrying", "missing")

Step = dict[str, Any]


def list_steps(webhook: Mapping[str, Any]) -> list[Step]:
    """Return the steps of a webhook, the first one first; those without a known time follow the receipt or come last.

    ``kind`` is ``received``, ``spooled``, ``settled`` (several groups), ``failed``, ``delayed``, ``dead-lettered``,
    ``handled``, ``repeated``, ``filtered``, ``replayed``, or a state of a group that still has work.
    """
    steps: list[Step] = [{"kind": "received", "at": webhook["received_at"]}]
    if webhook["spooled_seconds"] is not None:
        steps.append({"kind": "spooled", "at": webhook["reached_redis_at"], "seconds": webhook["spooled_seconds"]})
    groups = webhook["groups"]
    if settled := [group["group"] for group in groups if group["state"] == _FIRST_ATTEMPT]:
        steps.append({"kind": "settled", "at": None, "groups": settled})
    dated = [step for group in groups for step in _list_dated(group)]
    steps += sorted(dated, key=lambda step: step["at"] or "")
    for group in groups:
        if group["state"] == "delayed":
            steps.append({"kind": "delayed", "at": None, "due_at": group["due_at"], **_of(group)})
        elif group["state"] == "replayed":
            steps.append({"kind": "settled after replay", "at": None, **_of(group)})
    for state in _OPEN:
        if names := [group["group"] for group in groups if group["state"] == state]:
            steps.append({"kind": state, "at": None, "groups": names})
    return steps


def _list_dated(group: Mapping[str, Any]) -> Iterator[Step]:
    errors, attempts = group["errors"], group["attempts"] or len(group["errors"])
    yield from _merge_failures(group, errors, max(attempts - len(errors), 0) + 1)
    for outcome in group["outcomes"]:
        yield {"kind": outcome["outcome"], **_of(group), **outcome, **_describe_death(group, outcome["error"])}
    noted = any(outcome["outcome"] == "dead-lettered" for outcome in group["outcomes"])
    if group["dead_letter"] and not noted:
        facts = {"attempt": group["attempts"], **_describe_death(group, group["error"])}
        yield {"kind": "dead-lettered", "at": group["dead_at"], **_of(group), **facts}
    for replay in group["replays"]:
        yield {"kind": "replayed", "at": replay["started_at"], **_of(group), "replay": replay}


def _merge_failures(group: Mapping[str, Any], errors: Sequence[Mapping[str, Any]], first: int) -> Iterator[Step]:
    """Yield the first failure of each error, and its repetitions in a row as one more step."""
    place = 0
    while place < len(errors):
        error = errors[place]
        end = place + 1
        while end < len(errors) and all(errors[end][name] == error[name] for name in ("class", "place")):
            end += 1
        facts = {**_of(group), "class": error["class"], "place": error["place"]}
        message = group["message"] if end == len(errors) and group["state"] != "dead letter" else None
        yield {"kind": "failed", "at": error["at"], "attempt": first + place, **facts, "message": message}
        if again := [{"attempt": first + n, "at": errors[n]["at"]} for n in range(place + 1, end)]:
            yield {"kind": "failed again", "at": again[0]["at"], "attempts": again, **facts}
        place = end


def _describe_death(group: Mapping[str, Any], error: str | None) -> Step:
    """Split the error of a dead letter, ``reason: text``. The text of the last attempt has its own reason."""
    reason, _, text = (error or "").partition(": ")
    text = text.removeprefix("failed: ") if reason == "attempts" else text
    return {"reason": reason, "text": text, "message": group["message"], "dead_letter": group["dead_letter"]}


def _of(group: Mapping[str, Any]) -> dict[str, str]:
    return {"group": group["group"]}
