"""Adds up counters that start at 0 again, of processes and of streams, so that the sums never fall. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from console.queries.stats import ShardStats

Key = tuple[str, str]
"""The kind of a counter, and its label: (``answers``, ``200``)."""

Values = tuple[float, ...]
"""One number of a plain counter; of a histogram the count of each bucket, and the sum of the durations."""

MOST_PROCESSES = 1000
MOST_KEYS = 5000
FORGET_SECONDS = 3600.0
START_SECONDS = 2.0
"""A start time may be this much too early: the kernel rounds the time of its boot to seconds."""


@dataclass(slots=True)
class _Reading:
    """The last reading of one process."""

    started_at: float
    at: float
    counters: Mapping[Key, Values]


class CounterSums:
    """The increases of counters over all processes since ``watched_since``, in Unix seconds.

    A process that started before was counting before: its first reading adds nothing. A process that started later adds
    all that it has counted. After a restart, which shows as another start time or a counter that fell, counting starts
    at 0 again. Beyond MOST_KEYS different keys, new ones are not added.
    """

    def __init__(self, watched_since: float) -> None:
        self.sums: dict[Key, Values] = {}
        self._watched_since = watched_since - START_SECONDS
        self._last: dict[str, _Reading] = {}

    def add(self, process: str, started_at: float, at: float, counters: Mapping[Key, Values]) -> float | None:
        """Add the increases since the last reading of this process.

        Returns since when it has counted them; None if the first reading adds nothing.
        """
        before = self._last.get(process)
        earliest = self._watched_since if before is None else before.at
        base: Mapping[Key, Values] = {} if before is None else before.counters
        if before is None and started_at < self._watched_since:
            base = counters
        elif before is None or before.started_at != started_at or _fell(base, counters):
            base = {}
            earliest = started_at if earliest < started_at < at else earliest
        for key, values in counters.items():
            self._increase(key, values, base.get(key))
        self._last[process] = _Reading(started_at, at, counters)
        if len(self._last) > MOST_PROCESSES:
            self._last.pop(min(self._last, key=lambda name: self._last[name].at))
        return None if base is counters else earliest

    def forget(self, now: float) -> None:
        """Forget processes without a reading for FORGET_SECONDS. Their sums stay."""
        self._last = {name: last for name, last in self._last.items() if now - last.at < FORGET_SECONDS}

    def _increase(self, key: Key, values: Values, base: Values | None) -> None:
        total = self.sums.get(key)
        if total is None and len(self.sums) >= MOST_KEYS:
            return
        if base is None or len(base) != len(values):
            base = (0.0,) * len(values)
        if total is None or len(total) != len(values):  # the buckets of another version
            total = (0.0,) * len(values)
        self.sums[key] = tuple(map(_sum_up, total, values, base))


def _sum_up(total: float, value: float, base: float) -> float:
    return total + value - base


def _fell(before: Mapping[Key, Values], after: Mapping[Key, Values]) -> bool:
    """Whether any counter is smaller than before, or has gone."""
    return any(
        key not in after or any(new < old for new, old in zip(after[key], values, strict=False))
        for key, values in before.items()
    )


@dataclass(frozen=True, slots=True)
class StreamMark:
    """The last reading of one stream: its server, and how many entries were ever appended."""

    server_id: str | None
    added: int


class StreamSums:
    """The entries appended to the streams, and settled by each group, since the marks or else the first reading.

    A stream that was deleted, or lost with its server, starts at 0 again: ``losses`` counts how often this happened,
    because the entries between the last reading and the loss are unknown.
    """

    def __init__(self, marks: Mapping[int, StreamMark]) -> None:
        self.marks = dict(marks)
        """By shard."""
        self.stored = 0
        self.losses = 0
        self.settled: dict[str, int] = {}
        self._settled_before: dict[tuple[int, str], int] = {}

    def add(self, shards: Sequence[ShardStats]) -> None:
        """Add the increases since the last reading of each shard. A shard that is new since then was empty."""
        unknown = StreamMark(None, 0) if self.marks else None
        for stats in shards:
            number, mark = stats.shard.number, StreamMark(stats.server_id, stats.added)
            self._add_stored(self.marks.get(number, unknown), mark)
            self.marks[number] = mark
            for group in stats.groups:
                if group.registered and group.read is not None:
                    self._add_settled((number, group.name), group.read - group.pending)
        registered = {group.name for stats in shards for group in stats.groups if group.registered}
        self.settled = {name: count for name, count in self.settled.items() if name in registered}

    def _add_stored(self, before: StreamMark | None, after: StreamMark) -> None:
        if before is None:
            return
        has_other_server = None not in {before.server_id, after.server_id} and before.server_id != after.server_id
        has_fallen = after.added < before.added
        if has_other_server or has_fallen:
            self.losses += 1
        if has_fallen:
            self.stored += after.added
        elif not has_other_server:
            self.stored += after.added - before.added

    def _add_settled(self, key: tuple[int, str], settled: int) -> None:
        """Add the entries settled since the last reading; a group that was moved back adds nothing."""
        before = self._settled_before.get(key, settled)
        self.settled[key[1]] = self.settled.get(key[1], 0) + max(settled - before, 0)
        self._settled_before[key] = settled
