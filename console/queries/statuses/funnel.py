"""Counts what became of messages, from the hourly roll-ups."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import add

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from console.queries.codes.countries import find_country
from console.queries.statuses.figures import Counts, Group
from console.queries.statuses.reading import open_reader
from console.queries.statuses.selection import Choices, Split, StatusFilter
from console.queries.statuses.sums import label_of, period_of, read_dimensions, sum_by_dimension, sum_rows
from worker.store.tables import status_rollups

_COLUMNS = [
    status_rollups.c[name]
    for name in ("messages", "submitted", "delivered", "read", "rejected", "undeliverable", "open")
]
_ZEROS = (0,) * len(_COLUMNS)


async def count_messages(engine: AsyncEngine, chosen: StatusFilter) -> Counts:
    """Return how many messages reached each status."""
    async with open_reader(engine) as connection:
        sums = await sum_by_dimension(connection, chosen, *_COLUMNS)
    return Counts(*(sum(column) for column in zip(*sums.values(), strict=True)))


async def count_groups(engine: AsyncEngine, chosen: StatusFilter, split: Split) -> Sequence[Group]:
    """Return the counts of each group with messages: the largest first, for ``time`` the oldest first."""
    groups: defaultdict[str, Sequence[int]] = defaultdict(lambda: _ZEROS)
    async with open_reader(engine) as connection:
        for label, amounts in await _sum_labels(connection, chosen, split):
            groups[label] = list(map(add, groups[label], amounts))
    rows = [Group(label, Counts(*amounts)) for label, amounts in groups.items()]
    if split == "time":
        return sorted(rows, key=lambda group: group.label)
    return sorted(
        (group for group in rows if group.counts.messages), key=lambda group: (-group.counts.messages, group.label)
    )


async def _sum_labels(
    connection: AsyncConnection, chosen: StatusFilter, split: Split
) -> Iterable[tuple[str, Sequence[int]]]:
    if split != "time":
        sums = await sum_by_dimension(connection, chosen, *_COLUMNS)
        return [(label_of(dimension, split), amounts) for dimension, amounts in sums.items()]
    dimensions = await read_dimensions(connection, chosen)
    rows = await sum_rows(connection, chosen, dimensions, [status_rollups.c.hour], _COLUMNS)
    return [(period_of(row[0], chosen).isoformat(), [int(number) for number in row[1:]]) for row in rows]


async def list_choices(engine: AsyncEngine, chosen: StatusFilter) -> Choices:
    """Return the values that messages of the time have. Only the time of the filter counts."""
    of_time = StatusFilter(since=chosen.since, until=chosen.until)
    async with open_reader(engine) as connection:
        sums = await sum_by_dimension(connection, of_time, status_rollups.c.messages)
    dimensions = [dimension for dimension, (messages,) in sums.items() if messages]
    return Choices(
        _sort(dimension.channel for dimension in dimensions),
        _sort(dimension.account for dimension in dimensions),
        _sort(dimension.application for dimension in dimensions),
        _sort(dimension.network for dimension in dimensions),
        _sort(find_country(dimension.network) or "" for dimension in dimensions),
    )


def _sort(values: Iterable[str]) -> Sequence[str]:
    """Return the distinct values that are not empty, sorted."""
    return sorted(set(values) - {""})
