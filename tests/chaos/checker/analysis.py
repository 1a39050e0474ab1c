"""Compares the messages answered 200 with the observations at the end. No I/O."""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from tests.chaos.checker import payloads

STORE, LOG = "store", "log"
GROUPS = (STORE, LOG)

NAMED = 20
"""The most ids of each kind that an analysis names."""


@dataclass(frozen=True, slots=True)
class Observations:
    """The state at the end. `bodies` and `statuses` are the rows of the two tables by message id."""

    bodies: Mapping[str, Collection[bytes]]
    statuses: Mapping[str, Collection[str]]
    logged: Collection[str]
    """The messages in the output of the group `log`."""
    dead: Mapping[str, Mapping[str, Collection[str]]]
    """The reasons of the dead letters, by group and message id."""


@dataclass(slots=True)
class Analysis:
    """Counts of messages, and ids of those that break the promise."""

    acked: int = 0
    stored: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    """Acked messages among the dead letters, by reason."""
    lost: int = 0
    """Messages answered 200 that some group neither handled nor, if invalid, dead-lettered for that reason."""
    duplicates: int = 0
    """Messages with more than one row in one of the tables."""
    wrong: int = 0
    """Messages with rows that differ from the payload that was sent."""
    unanswered: int = 0
    """Stored but never answered 200. This is allowed: an answer can be lost on its way."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """The ids of lost, duplicate and wrong messages."""


def analyze(acked: AbstractSet[str], sent: Collection[str], observations: Observations) -> Analysis:
    """Compare the sent ids, and of these the ids answered 200, with the observations."""
    analysis = Analysis(acked=len(acked), stored=sum(message_uuid in observations.bodies for message_uuid in acked))
    reasons = [reason for message_uuid in acked for reason in set(observations.dead[STORE].get(message_uuid, ()))]
    analysis.dead = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    analysis.unanswered = sum(
        message_uuid in observations.bodies and message_uuid not in acked for message_uuid in sent
    )
    lost = {
        f"{message_uuid} ({group})"
        for group in GROUPS
        for message_uuid in acked
        if not _has_ended(message_uuid, group, observations)
    }
    analysis.lost = len({message_uuid.partition(" ")[0] for message_uuid in lost})
    duplicates = {
        message_uuid
        for message_uuid in sent
        if max(len(observations.bodies.get(message_uuid, ())), len(observations.statuses.get(message_uuid, ()))) > 1
    }
    analysis.duplicates = len(duplicates)
    wrong = {message_uuid for message_uuid in sent if not _is_right(message_uuid, observations)}
    analysis.wrong = len(wrong)
    for kind, ids in (("lost", lost), ("duplicates", duplicates), ("wrong", wrong)):
        if ids:
            analysis.names[kind] = sorted(ids)[:NAMED]
    return analysis


def _has_ended(message_id: str, group: str, observations: Observations) -> bool:
    """Whether the group has handled the message, or dead-lettered it if it is invalid."""
    if not payloads.is_parsable(message_id):
        return payloads.UNPARSABLE_REASON in observations.dead[group].get(message_id, ())
    return message_id in (observations.bodies if group == STORE else observations.logged)


def _is_right(message_id: str, observations: Observations) -> bool:
    """Whether the rows of the message, if there are any, equal the payload, and it is not wrongly a dead letter."""
    if not payloads.is_parsable(message_id):
        return message_id not in observations.bodies
    bodies, statuses = set(observations.bodies.get(message_id, ())), set(observations.statuses.get(message_id, ()))
    if any(message_id in observations.dead[group] for group in GROUPS):
        return False
    return (bodies, statuses) in (({payloads.body(message_id)}, {payloads.status(message_id)}), (set(), set()))
