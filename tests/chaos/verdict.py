"""What the judge says of a load, from what was answered 200 and what is there in the end. No I/O."""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from tests.chaos import payloads

STORE, LOG = "store", "log"
GROUPS = (STORE, LOG)

NAMED = 20
"""How many ids a verdict names, at most, of each kind."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is there in the end. ``bodies`` and ``statuses`` are the rows of the two tables by message id."""

    bodies: Mapping[str, Collection[bytes]]
    statuses: Mapping[str, Collection[str]]
    logged: Collection[str]
    """The messages that the group ``log`` has written a line for."""
    dead: Mapping[str, Mapping[str, Collection[str]]]
    """By group, then message id: why it was buried."""


@dataclass(slots=True)
class Verdict:
    """How many there are of what, and some of the ids of what must not be."""

    acked: int = 0
    stored: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    """Acked messages among the dead letters, by reason."""
    lost: int = 0
    """Answered 200, and in some group neither handled nor, if that is their right end, buried for that reason."""
    duplicates: int = 0
    """Messages with more than one row in one of the tables."""
    wrong: int = 0
    """Rows that say something else than what was sent."""
    unanswered: int = 0
    """Stored though never answered 200: allowed, for an answer can be lost on its way."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """Of what must not be: the ids."""


def judge(acked: AbstractSet[str], sent: Collection[str], found: Found) -> Verdict:
    """Compare the ids that were answered 200, of those that were sent, with what is there."""
    verdict = Verdict(acked=len(acked), stored=sum(one in found.bodies for one in acked))
    reasons = [reason for one in acked for reason in set(found.dead[STORE].get(one, ()))]
    verdict.dead = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    verdict.unanswered = sum(one in found.bodies and one not in acked for one in sent)
    lost = {f"{one} ({group})" for group in GROUPS for one in acked if not _has_ended(one, group, found)}
    verdict.lost = len({one.partition(" ")[0] for one in lost})
    duplicates = {one for one in sent if max(len(found.bodies.get(one, ())), len(found.statuses.get(one, ()))) > 1}
    verdict.duplicates = len(duplicates)
    wrong = {one for one in sent if not _is_right(one, found)}
    verdict.wrong = len(wrong)
    for kind, ids in (("lost", lost), ("duplicates", duplicates), ("wrong", wrong)):
        if ids:
            verdict.names[kind] = sorted(ids)[:NAMED]
    return verdict


def _has_ended(message_id: str, group: str, found: Found) -> bool:
    """Whether the group has done with the message what is right for it."""
    if not payloads.parsable(message_id):
        return payloads.UNPARSABLE_REASON in found.dead[group].get(message_id, ())
    return message_id in (found.bodies if group == STORE else found.logged)


def _is_right(message_id: str, found: Found) -> bool:
    """Whether what is there of it, if anything is, is what was sent, in the right place."""
    if not payloads.parsable(message_id):
        return message_id not in found.bodies
    bodies, statuses = set(found.bodies.get(message_id, ())), set(found.statuses.get(message_id, ()))
    if any(message_id in found.dead[group] for group in GROUPS):
        return False
    return (bodies, statuses) in (({payloads.body(message_id)}, {payloads.status(message_id)}), (set(), set()))
