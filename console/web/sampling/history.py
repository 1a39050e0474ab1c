"""The history of samples in the console's own database: bounded, and kept over restarts.

Each finished point of the finest tier is one statement, with all that a restart needs. A point stays open for
OPEN_SECONDS, because a late reading adds to earlier points. Coarser points are merged from finer ones as soon as those
are closed, also from those of an earlier run. A fault of the disk loses points only.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from itertools import pairwise

import structlog
from aiosqlite import Connection

from console.web.metrics.counters import StreamMark
from console.web.sampling.findings import Range, Series, WebhookCount
from console.web.sampling.snapshot import Snapshot
from console.web.sampling.tiers import (
    FINEST,
    MINUTE,
    STEPS,
    TIERS,
    Point,
    StoredCount,
    find_spans,
    make_point,
    make_series,
    merge,
    spread,
)
from runtime.log_throttle import LogThrottle

log = structlog.get_logger("history")

OPEN_SECONDS = 300
"""A reading that is later adds nothing to the points before: they are a gap."""
MOST_UNWRITTEN = 720
CACHED_SECONDS = 15.0
CLOCK_BACK_SECONDS = 60
SPOOL_SECONDS = 10.0
"""For this long a count waits for the next reading of the spools, if they hold webhooks."""

PUT = "INSERT OR REPLACE INTO samples (tier, start, data) VALUES (?, ?, ?)"
GET = "SELECT start, data FROM samples WHERE tier = ? AND start >= ? AND start < ? ORDER BY start"
LAST = "SELECT max(start) FROM samples WHERE tier = ?"
DROP = "DELETE FROM samples WHERE tier = ? AND start < ?"
FOREVER = 2**62


class SampleHistory:
    """The points of all tiers. Call `load` first; it reads what the last run has left."""

    def __init__(self, database: Connection) -> None:
        self._database = database
        self._throttle = LogThrottle(1, seconds=60.0)
        self._merged_until = 0
        self._points: dict[int, Point] = {}
        """The open points and those that are not written, by start, in the order of their time."""
        self._unwritten: set[int] = set()
        self._latest = 0
        """The start of the point that is not finished; 0 before the first sample."""
        self._series: dict[Range, tuple[float, Series]] = {}
        self._stored = StoredCount(())
        self.marks: Mapping[int, StreamMark] = {}
        """The streams as the last run has left them, by shard."""

    async def load(self, now: float) -> None:
        """Read the state that the last run has left. Logs a fault of the disk."""
        try:
            points = [point async for point in self._read(MINUTE, int(now) - TIERS[MINUTE])]
        except sqlite3.Error as exc:
            self._report(exc)
            return
        self._stored = StoredCount(points)
        streams = next((point.marks for point in reversed(points) if point.marks), {})  # not all of a stall have them
        self.marks = {int(shard): StreamMark(server_id, added) for shard, (server_id, added) in streams.items()}
        self._points = {point.start: point for point in points if point.step == FINEST}
        self._latest = max(self._points, default=0)  # after a quick restart it is not finished
        self._drop_closed()

    def add(self, before: Snapshot, after: Snapshot, marks: Mapping[int, StreamMark]) -> None:
        """Add the time between two snapshots."""
        streams = {str(shard): [mark.server_id, mark.added] for shard, mark in marks.items()}
        point = make_point(before, after, streams)
        is_stale = after.totals.at == before.totals.at and after.taken_at - after.totals.at < SPOOL_SECONDS
        self._stored.add(point, is_spool_stale=is_stale, is_redis_away=after.redis.away is not None)
        if 0 < self._latest - point.start < CLOCK_BACK_SECONDS:
            point.start = self._latest
        oldest = max(self._latest, point.start) - OPEN_SECONDS + FINEST
        for part in spread(point, find_spans(before, after), oldest):
            self._points.setdefault(part.start, Point(part.start, FINEST)).add(part)
            self._unwritten.add(part.start)
        self._latest = point.start

    async def write(self) -> None:
        """Write the finished points, merge those whose time is over, and drop old ones. Logs a fault of the disk."""
        await self._write(self._unwritten - {self._latest})

    async def _write(self, starts: Collection[int]) -> None:
        points = [self._points[start] for start in sorted(starts)]
        if not points:
            return
        self._unwritten -= set(starts)
        try:
            await self._put(points)
            await self._merge_finished(self._latest - OPEN_SECONDS)
        except sqlite3.Error as exc:
            self._unwritten |= set(starts)
            self._report(exc)
        self._drop_closed()

    def _drop_closed(self) -> None:
        """Forget the points that are closed and written, and the oldest unwritten ones if the disk fails for long."""
        kept = sorted(
            start for start in self._points if start > self._latest - OPEN_SECONDS or start in self._unwritten
        )
        self._points = {start: self._points[start] for start in kept[-MOST_UNWRITTEN:]}
        self._unwritten &= self._points.keys()

    async def finish(self) -> None:
        """Write also the point that is not finished."""
        await self._write(set(self._unwritten))

    def webhooks_since(self, moment: float) -> WebhookCount | None:
        """Count the webhooks that were stored since a moment of the last day; None before the first sample."""
        return self._stored.since(moment)

    async def series(self, chosen: Range, now: float | None = None) -> Series:
        """Return the points of the charts. Without the database, only those that are not written yet."""
        moment = time.time() if now is None else now
        cached = self._series.get(chosen)
        if cached and 0 <= moment - cached[0] < min(STEPS[chosen], CACHED_SECONDS):
            return cached[1]
        tier = max(step for step in TIERS if STEPS[chosen] % step == 0 and chosen.seconds <= TIERS[step])
        try:
            points = [point async for point in self._read(tier, int(moment) - chosen.seconds - STEPS[chosen])]
        except sqlite3.Error as exc:
            self._report(exc)
            points = []
        points = [point for point in points if point.step != FINEST or point.start not in self._points]
        points += self._points.values()
        series = make_series(sorted(points, key=lambda point: point.start), chosen, moment)
        self._series[chosen] = moment, series
        return series

    async def _read(self, tier: int, since: int) -> AsyncIterator[Point]:
        """Yield the points of a tier, and for the time that is not merged yet those of finer tiers."""
        for step in sorted((step for step in TIERS if step <= tier), reverse=True):
            async with self._database.execute(GET, (step, since, FOREVER)) as cursor:
                async for start, data in cursor:
                    if point := Point.read(start, step, data):
                        yield point
                    since = start + step

    async def _put(self, points: Iterable[Point]) -> None:
        await self._database.executemany(PUT, [(point.step, point.start, point.to_json()) for point in points])

    async def _merge_finished(self, now: int) -> None:
        """Merge the points of all minutes that are over, once a minute."""
        if now // MINUTE == self._merged_until // MINUTE:
            return
        steps = sorted(TIERS)
        for finer, step in pairwise(steps):
            async with self._database.execute(LAST, (step,)) as cursor:
                row = await cursor.fetchone()
            since = row[0] + step if row and row[0] is not None else 0
            until = now // step * step
            if since >= until:
                continue
            async with self._database.execute(GET, (finer, since, until)) as cursor:
                points = [point async for start, data in cursor if (point := Point.read(start, finer, data))]
            await self._put(merge(points, step))
            await self._database.execute(DROP, (finer, now - TIERS[finer]))
        await self._database.execute(DROP, (steps[-1], now - TIERS[steps[-1]]))
        self._merged_until = now

    def _report(self, exc: sqlite3.Error) -> None:
        if self._throttle.admit("failed") is not None:
            what = "check the disk of ACKSTREAM_DATA; charts have a gap until then"
            log.warning("history.failed", error=type(exc).__name__, what=what)
