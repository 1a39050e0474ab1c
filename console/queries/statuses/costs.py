"""Sums the prices of messages for each currency, from the hourly roll-ups."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.statuses.figures import Cost
from console.queries.statuses.selection import Split, StatusFilter


async def sum_costs(engine: AsyncEngine, chosen: StatusFilter, split: Split) -> Sequence[Cost]:
    """Return the cost of each group and currency, the groups with the most messages first. Currencies are not added."""
    raise NotImplementedError(engine, chosen, split)
