"""Counts entries by cause. No I/O.

A cause is the few words that many failures have in common: for dead letters the group, the reason and the error; for
invalid payloads the error and the result of the signature check; for quarantined payloads the reason and the account.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from console.queries.replays import ReplayPlan
from worker.events.timestamps import iso_time
from worker.replay.entry_reader import Span, Stored

CAUSES_AT_MOST = 200
"""At most this many causes are counted separately; all others are counted together."""
NEWEST = 10
HOURS = 24
ID_LENGTH = 12
HOUR_MS = 3_600_000

Words = Mapping[str, str]


@dataclass(slots=True)
class Cause:
    """One cause, with its number for each shard, its newest entries and its number in each of the last 24 hours."""

    words: Words
    """The name and value of each word: ``{"group": "orders", "reason": "attempts", …}``. Empty for all others."""
    plans: dict[int, ReplayPlan] = field(default_factory=dict)
    """Shard → the number, bytes, times and ids of its entries."""
    newest: list[Stored] = field(default_factory=list)
    first_ms: int = 0
    last_ms: int = 0
    hours: list[int] = field(default_factory=lambda: [0] * HOURS)
    good: int = 0
    """The number of entries that would go through now."""

    @property
    def id(self) -> str:
        """A short name for URLs."""
        return cause_id(tuple(self.words.values()))

    @property
    def count(self) -> int:
        """The number of entries."""
        return sum(plan.entries for plan in self.plans.values())

    @property
    def spans(self) -> dict[int, Span]:
        """Shard → the span from its first to its last entry."""
        spans = {shard: plan.span for shard, plan in self.plans.items()}
        return {shard: Span(span[0].before(), span[1]) for shard, span in spans.items() if span}

    def add(self, stored: Stored, now_ms: int) -> None:
        """Count an entry. The first calls keep the entry, so call it for the newest entries first."""
        self.plans.setdefault(stored.id.shard, ReplayPlan()).add(stored)
        if len(self.newest) < NEWEST:
            self.newest.append(stored)
        moment = stored.id.ms
        self.first_ms = min(self.first_ms or moment, moment)
        self.last_ms = max(self.last_ms, moment)
        hour = max(now_ms - moment, 0) // HOUR_MS
        if hour < HOURS:
            self.hours[HOURS - 1 - hour] += 1

    def summary(self) -> dict[str, Any]:
        """Return the row of a listing. ``hours`` has the number of each of the last 24 hours, the oldest first."""
        return {
            "cause": self.id,
            **self.words,
            "count": self.count,
            "good": self.good,
            "bytes": sum(plan.bytes for plan in self.plans.values()),
            "first_at": iso_time(self.first_ms),
            "last_at": iso_time(self.last_ms),
            "received": self._received(),
            "last_hour": self.hours[-1],
            "hours": self.hours,
        }

    def _received(self) -> list[str | None]:
        """Return the earliest and the latest time of receipt; empty if no entry has one."""
        spans = [plan.received_ms for plan in self.plans.values() if plan.received_ms]
        return [iso_time(min(span[0] for span in spans)), iso_time(max(span[1] for span in spans))] if spans else []


@dataclass(slots=True)
class Causes:
    """All causes, by their words."""

    now_ms: int
    by_words: dict[tuple[str, ...], Cause] = field(default_factory=dict)

    def add(self, words: Words, stored: Stored) -> Cause:
        """Count an entry under these words, or under no words if there are too many causes. Return its cause."""
        key = tuple(words.values())
        if key not in self.by_words and len(self.by_words) >= CAUSES_AT_MOST:
            words, key = {}, ()
        cause = self.by_words.get(key)
        if cause is None:
            cause = self.by_words[key] = Cause(words)
        cause.add(stored, self.now_ms)
        return cause

    @property
    def ordered(self) -> Sequence[Cause]:
        """The causes, the most frequent first; all others last."""
        return sorted(self.by_words.values(), key=lambda cause: (not cause.words, -cause.count, -cause.last_ms))

    def find(self, chosen: str | None) -> Cause | None:
        """Return the cause with this id; without an id the most frequent one."""
        return next((cause for cause in self.ordered if cause.words and chosen in (None, cause.id)), None)


@lru_cache(maxsize=1024)
def cause_id(values: tuple[str, ...]) -> str:
    """Return a short id that stays the same for the same words."""
    return hashlib.sha256("\n".join(values).encode(errors="replace")).hexdigest()[:ID_LENGTH]
