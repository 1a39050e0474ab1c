"""Sums the prices of messages for each currency, from the hourly roll-ups."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from console.queries.statuses.figures import Cost
from console.queries.statuses.reading import open_reader
from console.queries.statuses.selection import Split, StatusFilter
from console.queries.statuses.sums import label_of, period_of, read_dimensions, sum_by_dimension, sum_by_hour
from worker.store.contribution import UNITS
from worker.store.tables import rollup_dimensions, status_rollups

_COLUMNS = (status_rollups.c.priced, status_rollups.c.units)


async def sum_costs(engine: AsyncEngine, chosen: StatusFilter, split: Split) -> Sequence[Cost]:
    """Return the cost of each group and currency, the groups with the most messages first. Currencies are not added."""
    sums: defaultdict[tuple[str, str], Sequence[int]] = defaultdict(lambda: (0, 0))
    async with open_reader(engine) as connection:
        for label, currency, priced, units in await _sum_prices(connection, chosen, split):
            before = sums[label, currency]
            sums[label, currency] = before[0] + priced, before[1] + units
    costs = [
        Cost(label, currency, priced, (Decimal(units) / UNITS).normalize())
        for (label, currency), (priced, units) in sums.items()
        if priced
    ]
    if split == "time":
        return sorted(costs, key=lambda cost: (cost.label, cost.currency))
    numbers = Counter[str]()
    for cost in costs:
        numbers[cost.label] += cost.messages
    return sorted(costs, key=lambda cost: (-numbers[cost.label], cost.label, cost.currency))


async def _sum_prices(
    connection: AsyncConnection, chosen: StatusFilter, split: Split
) -> Iterable[tuple[str, str, int, int]]:
    """Return label, currency, number of prices and sum of units. A pair of label and currency may come again."""
    if split != "time":
        sums = await sum_by_dimension(connection, chosen, *_COLUMNS)
        return [
            (label_of(dimension, split), dimension.currency, priced, units)
            for dimension, (priced, units) in sums.items()
        ]
    dimensions = await read_dimensions(connection, chosen)
    rows = await sum_by_hour(connection, chosen, dimensions, rollup_dimensions.c.currency, *_COLUMNS)
    return [
        (period_of(hour, chosen).isoformat(), currency, int(priced), int(units))
        for hour, currency, priced, units in rows
    ]
