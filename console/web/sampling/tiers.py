"""The history as points of three tiers: 5 s for an hour, a minute for a day, 10 minutes for a week. No I/O.

A coarser point is the merger of finer ones: counts and times add up, peaks are the greatest, the last value is that of
the latest point. So no count is lost between tiers, and any order of mergers has the same result.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Self

import orjson

from console.web.metrics.distribution import Distribution
from console.web.sampling.findings import Range, Series, WebhookCount
from console.web.sampling.rates import Counts, subtract
from console.web.sampling.snapshot import INGEST, REDIS, WORKER, Snapshot

TIERS: Mapping[int, int] = {5: 3600, 60: 86_400, 600: 604_800}
"""Step of a tier → how long its points are kept, both in seconds."""
FINEST, MINUTE = 5, 60
STEPS: Mapping[Range, int] = {
    Range.MINUTES_15: 5,
    Range.HOUR: 15,
    Range.HOURS_6: 120,
    Range.DAY: 300,
    Range.WEEK: 2400,
}
"""The step of each chart: at most 300 points."""
CALIBRATIONS = 30
MOST_GROUPS = 50
"""Groups of the history; it leaves out further ones."""

_PARTS = {"settled": REDIS, "webhooks": INGEST, "refused": INGEST, "handled": WORKER}
"""Kind of a rate → the part that it is read from."""


@dataclass(slots=True)
class Point:
    """The events within ``step`` seconds from ``start``."""

    start: int
    step: int
    covered: dict[str, float] = field(default_factory=dict)
    """Seconds within the step in which each part was read: ``redis``, ``ingest``, ``worker``."""
    counts: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    lasts: dict[str, float] = field(default_factory=dict)
    marks: dict[str, Any] = field(default_factory=dict)
    """The streams at the end: shard → [id of the server, entries ever appended]."""
    answer: Distribution = field(default_factory=Distribution)

    def add(self, later: "Point") -> None:
        """Merge a later point into this one."""
        for mine, others in ((self.covered, later.covered), (self.counts, later.counts)):
            for name, number in others.items():
                mine[name] = mine.get(name, 0.0) + number
        for name, number in later.peaks.items():
            self.peaks[name] = max(self.peaks.get(name, number), number)
        self.lasts |= later.lasts
        self.marks |= later.marks
        self.answer = self.answer.plus(later.answer)

    def rate(self, name: str) -> float | None:
        """Return a count per second; None if its part was not read."""
        seconds = self.covered.get(_PARTS[name.partition(":")[0]], 0.0)
        return self.counts.get(name, 0.0) / seconds if seconds else None

    def value(self, name: str) -> float | None:
        """Return the value of a series (console.web.sampling.findings.Series); None if it is unknown."""
        if name == "answer_p50":
            return self.answer.quantile(0.5)
        if name == "answer_p99":
            return self.answer.quantile(0.99)
        return self.rate(name) if name.partition(":")[0] in _PARTS else self.peaks.get(name)

    def to_json(self) -> bytes:
        """Encode the point. ``from_json`` makes an equal one."""
        answer = [self.answer.bounds, self.answer.counts, self.answer.total_seconds] if self.answer.counts else []
        return orjson.dumps([self.covered, self.counts, self.peaks, self.lasts, self.marks, answer])

    @classmethod
    def read(cls, start: int, step: int, data: bytes) -> Self | None:
        """Decode a point; None if another version wrote it in another form, which makes a gap."""
        try:
            return cls.from_json(start, step, data)
        except (ValueError, TypeError, IndexError):
            return None

    @classmethod
    def from_json(cls, start: int, step: int, data: bytes) -> Self:
        """Decode a point. Raises ValueError, TypeError or IndexError for other data."""
        covered, counts, peaks, lasts, marks, answer = orjson.loads(data)
        distribution = Distribution(tuple(answer[0]), tuple(answer[1]), answer[2]) if answer else Distribution()
        return cls(start, step, covered, counts, peaks, lasts, marks, distribution)


def make_point(before: Snapshot, after: Snapshot, marks: Mapping[str, Any]) -> Point:
    """Return the point of the time between two snapshots. ``marks`` are the streams at its end."""
    totals, base = after.totals, before.totals
    answers = _increase(totals.counts, base.counts, "answers")
    handled = _increase(totals.counts, base.counts, "handled")
    settled = _increase(totals.redis_counts, base.redis_counts, "settled")
    groups = sorted(name for name, group in after.groups.items() if group.registered)[:MOST_GROUPS]
    counts = {
        "stored": _increase(totals.redis_counts, base.redis_counts, "stored").get("", 0.0),
        "losses": _increase(totals.redis_counts, base.redis_counts, "losses").get("", 0.0),
        "webhooks": sum(number for answer, number in answers.items() if answer != "check"),
        "refused": sum(number for answer, number in answers.items() if answer not in {"200", "check"}),
        "handled": sum(handled.values()),
        **{f"handled:{name}": handled.get(name, 0.0) for name in groups},
        **{f"settled:{name}": settled.get(name, 0.0) for name in groups},
    }
    return Point(
        int(after.taken_at // FINEST * FINEST),
        FINEST,
        covered={part: until - since for part, (since, until) in find_spans(before, after).items()},
        counts={name: number for name, number in counts.items() if number},
        peaks=_read_peaks(after, groups),
        lasts={} if after.spooled is None else {"spooled": after.spooled},
        marks=dict(marks),
        answer=subtract(totals, base, ("answer", "")),
    )


def _increase(after: Counts, before: Counts, kind: str) -> dict[str, float]:
    return {label: value - before.get((name, label), 0.0) for (name, label), value in after.items() if name == kind}


def find_spans(before: Snapshot, after: Snapshot) -> dict[str, tuple[float, float]]:
    """Return the time between the readings of each part that was read. The first reading of Redis covers nothing."""
    spans = {REDIS: (before.totals.redis_at, after.totals.redis_at)} if before.totals.redis_at else {}
    for part, (since, until) in after.totals.spans.items():
        spans[part] = (max(since, before.totals.spans.get(part, (0.0, 0.0))[1]), until)
    return {part: (since, until) for part, (since, until) in spans.items() if since < until}


def spread(point: Point, spans: Mapping[str, tuple[float, float]], oldest: int) -> list[Point]:
    """Divide the counts of a point evenly among the points of the time in which they were counted.

    A late reading covers more than a point. Without this its counts would be a rate of one point, and the others gaps.
    Counts of the time before ``oldest`` are dropped.
    """
    rest = {name: number for name, number in point.counts.items() if _PARTS.get(name.partition(":")[0]) not in spans}
    last = Point(point.start, FINEST, {}, rest, point.peaks, point.lasts, point.marks)
    points = {point.start: last}
    for part, (since, until) in spans.items():
        counts = {name: number for name, number in point.counts.items() if _PARTS.get(name.partition(":")[0]) == part}
        answer = point.answer if part == INGEST else Distribution()
        for start, seconds in _divide(max(since, oldest), until):
            share = seconds / (until - since)
            shares = {name: number * share for name, number in counts.items()}
            piece = Point(start, FINEST, {part: seconds}, shares, answer=answer.times(share))
            points.setdefault(start, Point(start, FINEST)).add(piece)
    return sorted(points.values(), key=lambda each: each.start)


def _divide(since: float, until: float) -> Iterator[tuple[int, float]]:
    """Yield the start of each point between two times, and how many seconds of the time it has."""
    start = int(since // FINEST * FINEST)
    while start < until:
        yield start, min(start + FINEST, until) - max(start, since)
        start += FINEST


def _read_peaks(moment: Snapshot, groups: Sequence[str]) -> dict[str, float]:
    """Return the gauges of a moment. Redis's are left out while it is away, which makes a gap."""
    peaks: dict[str, float | None] = {"spooled": moment.spooled}
    if moment.redis.away is None:
        peaks |= {"entries": moment.redis.entries, "memory": moment.memory_share}
        for name in groups:
            group = moment.groups[name]
            peaks |= {f"outstanding:{name}": group.outstanding, f"dead:{name}": group.dead}
            peaks[f"oldest:{name}"] = group.oldest_seconds or 0.0
    return {name: number for name, number in peaks.items() if number is not None}


def merge(points: Iterable[Point], step: int) -> list[Point]:
    """Merge points into steps, the oldest first. ``points`` are in the order of their time."""
    merged = []
    for start, members in groupby(points, key=lambda point: point.start // step * step):
        total = Point(start, step)
        for point in members:
            total.add(point)
        merged.append(total)
    return merged


def make_series(points: Iterable[Point], chosen: Range, now: float) -> Series:
    """Return the chart of a range that ends now. A step without a point is a gap in all series."""
    step = STEPS[chosen]
    last = int(now // step * step)
    starts = range(last - chosen.seconds + step, last + step, step)
    by_start = {point.start: point for point in merge(points, step)}
    names = {name for start in starts if start in by_start for name in _names(by_start[start])}
    values = {
        name: tuple(by_start[start].value(name) if start in by_start else None for start in starts)
        for name in sorted(names)
    }
    return Series(step, tuple(min(start + step, now) for start in starts), values)


def _names(point: Point) -> set[str]:
    groups = {name.partition(":")[2] for name in point.peaks if ":" in name}
    rates = {f"{kind}:{group}" for kind in ("handled", "settled") for group in groups}
    return {"webhooks", "handled", "refused", "answer_p50", "answer_p99", *rates, *point.peaks}


@dataclass(frozen=True, slots=True)
class _Mark:
    """The sums at the start of a minute."""

    at: int
    stored: float
    losses: float
    spooled: float


class StoredCount:
    """Adds up the points of the history, with a mark for each minute of the last day.

    A webhook that was answered 200 is in the stream, or waits in a spool. So the webhooks between two moments are the
    entries appended in between, plus what the spools hold more than before. While the spools hold webhooks, the count
    changes only with a new reading of them: otherwise it would include drained webhooks twice. While Redis is away, the
    last entries before that are unknown, and the answers of ingest count instead.
    """

    def __init__(self, points: Iterable[Point]) -> None:
        self._marks: deque[_Mark] = deque()
        self._stored = self._losses = self._spooled = 0.0
        self._spooled_first: float | None = None
        """The first number of spooled entries: they were answered before, so the sums leave them out."""
        self._accepted = self._shown = 0.0
        self._surplus: deque[float] = deque(maxlen=CALIBRATIONS)
        """Kept webhooks minus accepted ones; the least is right, because Redis is read a little after ingest."""
        for point in points:
            self.add(point)

    def add(self, point: Point, *, is_spool_stale: bool = False, is_redis_away: bool = False) -> None:
        """Add the next point; its start may equal that of the last one."""
        minute = point.start // MINUTE * MINUTE
        if not self._marks or minute > self._marks[-1].at:
            self._marks.append(_Mark(minute, self._stored, self._losses, self._spooled))
        self._stored += point.counts.get("stored", 0.0)
        self._losses += point.counts.get("losses", 0.0)
        if "spooled" in point.lasts:
            if self._spooled_first is None:
                self._spooled_first = point.lasts["spooled"]
            self._spooled = point.lasts["spooled"] - self._spooled_first
        self._accepted += point.counts.get("webhooks", 0.0) - point.counts.get("refused", 0.0)
        if is_redis_away:
            self._shown = max(self._shown, self._accepted + min(self._surplus, default=-math.inf))
        elif not (is_spool_stale and point.lasts.get("spooled")):
            self._shown = self._stored + self._spooled
            if not is_spool_stale:
                self._surplus.append(self._shown - self._accepted)
        while len(self._marks) > 1 and self._marks[1].at <= minute - TIERS[MINUTE]:
            self._marks.popleft()

    def since(self, moment: float) -> WebhookCount | None:
        """Count the webhooks since the last mark up to this moment, or since the first mark; None without any."""
        if not self._marks:
            return None
        mark = next((mark for mark in reversed(self._marks) if mark.at <= moment), self._marks[0])
        number = self._shown - mark.stored - mark.spooled
        return WebhookCount(max(round(number), 0), mark.at, is_exact=self._losses == mark.losses)
