"""Computes percentiles of the time to delivery, from the hourly roll-ups."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.statuses.figures import Delivery
from console.queries.statuses.reading import open_reader
from console.queries.statuses.selection import Split, StatusFilter
from console.queries.statuses.sums import label_of, period_of, read_dimensions, sum_rows
from worker.store.contribution import bucket_seconds
from worker.store.tables import delivery_rollups


async def measure_delivery(engine: AsyncEngine, chosen: StatusFilter, split: Split) -> Sequence[Delivery]:
    """Return the percentiles of each group: the largest first, for ``time`` the oldest first."""
    histograms: defaultdict[str, Counter[int]] = defaultdict(Counter)
    key = delivery_rollups.c.hour if split == "time" else delivery_rollups.c.dimension
    async with open_reader(engine) as connection:
        dimensions = await read_dimensions(connection, chosen)
        keys = [key, delivery_rollups.c.bucket]
        for value, bucket, messages in await sum_rows(
            connection, chosen, dimensions, keys, [delivery_rollups.c.messages]
        ):
            if split == "time":
                histograms[period_of(value, chosen).isoformat()][bucket] += int(messages)
            elif value in dimensions:
                histograms[label_of(dimensions[value], split)][bucket] += int(messages)
    rows = [_measure(label, histogram) for label, histogram in histograms.items() if histogram.total()]
    return sorted(rows, key=lambda row: row.label if split == "time" else (-row.messages, row.label))


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
