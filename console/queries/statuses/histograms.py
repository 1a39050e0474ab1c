"""Keeps the times to delivery of whole days, because a month has millions of rows.

Rows of old days hardly ever change. A read compares the counts of each day with those of its last read, which is quick,
and reads the rows of a day again only if its counts have changed. A change that leaves all counts equal, such as an
earlier time of the same status, shows after an hour.
"""

import asyncio
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from console.queries.statuses.reading import SECONDS, make_too_slow, open_reader
from console.queries.statuses.selection import StatusFilter
from console.queries.statuses.sums import sum_rows
from worker.store.tables import delivery_rollups, status_rollups

MOST_CELLS = 2_000_000
"""The most pairs of a dimension and a bucket in all days together. Each takes 18 bytes."""
DAY_CELLS = 50
"""A day takes the memory of so many cells, also without any."""
KEEP_SECONDS = 3600.0
"""A day is read again after this time."""
REFRESH_SECONDS = 0.2
"""After this time a read leaves such days to the next reads. A day of 170,000 messages takes 0.05 s."""

_PRIME = 1_000_003  # a part of a dimension's id: sums of the whole ids would not fit into 64 bits

_Span = tuple[datetime, datetime]
_Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Day:
    """The numbers of messages by dimension and bucket. The first and the last day of a time may be shorter."""

    start: datetime
    dimensions: Sequence[int]
    buckets: Sequence[int]
    messages: Sequence[int]
    counts: _Counts
    read_at: float


class DeliveryHistograms:
    """The days of one database."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()
        self._days: dict[_Span, Day] = {}
        """The day that was used last is the last one."""

    async def read(self, engine: AsyncEngine, chosen: StatusFilter) -> Sequence[Day]:
        """Return the days of the filter's time that have messages. Reads take turns, to read no rows twice.

        Raises QueryTooSlow, DatabaseAway, or an error of the database. The days that were read stay, so the next read
        gets further.
        """
        async with self._turn, open_reader(engine) as connection:
            until, days = self._clock() + SECONDS, []
            counts_of_days = await _count_days(connection, chosen)
            refresh_until = self._clock() + REFRESH_SECONDS
            for span, counts in counts_of_days.items():
                now, day = self._clock(), self._days.pop(span, None)
                is_old = day is not None and now - day.read_at > KEEP_SECONDS and now < refresh_until
                if day is None or day.counts != counts or is_old:
                    if now > until:
                        raise make_too_slow(SECONDS)
                    day = await _read_day(connection, span, counts, now)
                self._keep(span, day)
                days.append(day)
        return days

    def _keep(self, span: _Span, day: Day) -> None:
        self._days[span] = day
        cells = sum(DAY_CELLS + len(each.messages) for each in self._days.values())
        for oldest in list(self._days):
            if cells <= MOST_CELLS:
                return
            cells -= DAY_CELLS + len(self._days.pop(oldest).messages)


async def _count_days(connection: AsyncConnection, chosen: StatusFilter) -> Mapping[_Span, _Counts]:
    """Return for each day with messages the counts that change if one is submitted, delivered or gets other values."""
    columns = status_rollups.c
    sums = columns.submitted, columns.delivered, columns.delivered * (columns.dimension % _PRIME)
    statement = (
        select(columns.hour, *map(func.sum, sums))
        .where(columns.hour >= chosen.first_hour, columns.hour < chosen.end)
        .group_by(columns.hour)
    )
    hours = {hour: [int(number) for number in numbers] for hour, *numbers in await connection.execute(statement)}
    days: dict[_Span, _Counts] = {}
    for start, end in pairwise(_list_edges(chosen)):
        if counts := [hours[hour] for hour in hours if start <= hour < end]:
            days[start, end] = tuple(map(sum, zip(*counts, strict=True)))
    return days


def _list_edges(chosen: StatusFilter) -> Sequence[datetime]:
    """Return the start and the end of the time, and all midnights between them."""
    first, end = chosen.first_hour, chosen.end
    midnights = (first.replace(hour=0) + timedelta(days=place) for place in range(1, (end - first).days + 2))
    return [first, *(midnight for midnight in midnights if midnight < end), end]


async def _read_day(connection: AsyncConnection, span: _Span, counts: _Counts, now: float) -> Day:
    start, end = span
    columns = delivery_rollups.c
    chosen = StatusFilter(since=start, until=end)
    rows = await sum_rows(connection, chosen, {}, [columns.dimension, columns.bucket], [columns.messages])
    dimensions, buckets, messages = zip(*rows, strict=True) if rows else ((), (), ())
    return Day(start, array("q", dimensions), array("H", buckets), array("q", map(int, messages)), counts, now)
