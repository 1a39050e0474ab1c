"""Computes percentiles of the time to delivery, from the hourly roll-ups."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from console.queries.statuses.figures import Delivery
from console.queries.statuses.histograms import Day, DeliveryHistograms
from console.queries.statuses.reading import open_reader
from console.queries.statuses.selection import Split, StatusFilter
from console.queries.statuses.sums import MOST_HOURS, label_of, period_of, read_dimensions, sum_rows
from worker.store.contribution import Dimension, bucket_seconds
from worker.store.tables import delivery_rollups

_Rows = Iterable[tuple[str, int, int]]
"""Labels, buckets and numbers of messages. A pair of label and bucket may come again."""


async def measure_delivery(
    engine: AsyncEngine, chosen: StatusFilter, split: Split, kept: DeliveryHistograms
) -> Sequence[Delivery]:
    """Return the percentiles of each group: the largest first, for ``time`` the oldest first."""
    is_long = chosen.end - chosen.first_hour > MOST_HOURS
    days = await kept.read(engine, chosen) if is_long else []
    async with open_reader(engine) as connection:
        dimensions = await read_dimensions(connection, chosen)
        rows = [] if is_long else await _sum_buckets(connection, chosen, split, dimensions)
    histograms: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for label, bucket, messages in _label_days(days, split, dimensions) if is_long else rows:
        histograms[label][bucket] += messages
    figures = [_measure(label, histogram) for label, histogram in histograms.items() if histogram.total()]
    return sorted(figures, key=lambda row: row.label if split == "time" else (-row.messages, row.label))


async def _sum_buckets(
    connection: AsyncConnection, chosen: StatusFilter, split: Split, dimensions: Mapping[int, Dimension]
) -> _Rows:
    """Return the rows of a short time."""
    columns = delivery_rollups.c
    keys = [columns.hour if split == "time" else columns.dimension, columns.bucket]
    rows = await sum_rows(connection, chosen, dimensions, keys, [columns.messages])
    if split == "time":
        return [(period_of(hour, chosen).isoformat(), bucket, int(messages)) for hour, bucket, messages in rows]
    return [
        (label_of(dimensions[key], split), bucket, int(messages)) for key, bucket, messages in rows if key in dimensions
    ]


def _label_days(days: Sequence[Day], split: Split, dimensions: Mapping[int, Dimension]) -> _Rows:
    """Yield the rows of whole days."""
    labels = {} if split == "time" else {key: label_of(value, split) for key, value in dimensions.items()}
    for day in days:
        if split == "time":
            labels = dict.fromkeys(dimensions, day.start.replace(hour=0).isoformat())
        for dimension, bucket, messages in zip(day.dimensions, day.buckets, day.messages, strict=True):
            if dimension in labels:
                yield labels[dimension], bucket, messages


def _measure(label: str, histogram: Mapping[int, int]) -> Delivery:
    total = sum(histogram.values())
    return Delivery(label, total, *(_find_percentile(histogram, total, percent) for percent in (50, 90, 99)))


def _find_percentile(histogram: Mapping[int, int], total: int, percent: int) -> float:
    """Return the seconds in which this share of the messages was delivered."""
    rank, reached = -(-total * percent // 100), 0
    for bucket in sorted(histogram):
        reached += histogram[bucket]
        if reached >= rank:
            return bucket_seconds(bucket)
    raise AssertionError(histogram)
