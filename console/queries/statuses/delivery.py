"""Computes percentiles of the time to delivery, from the hourly roll-ups."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.statuses.figures import Delivery
from console.queries.statuses.selection import Split, StatusFilter


async def measure_delivery(engine: AsyncEngine, chosen: StatusFilter, split: Split) -> Sequence[Delivery]:
    """Return the percentiles of each group: the largest first, for ``time`` the oldest first."""
    raise NotImplementedError(engine, chosen, split)
