"""Counts what became of messages, from the hourly roll-ups."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.statuses.figures import Counts, Group
from console.queries.statuses.selection import Choices, Split, StatusFilter


async def count_messages(engine: AsyncEngine, chosen: StatusFilter) -> Counts:
    """Return how many messages reached each status."""
    raise NotImplementedError(engine, chosen)


async def count_groups(engine: AsyncEngine, chosen: StatusFilter, split: Split) -> Sequence[Group]:
    """Return the counts of each group with messages: the largest first, for ``time`` the oldest first."""
    raise NotImplementedError(engine, chosen, split)


async def list_choices(engine: AsyncEngine, chosen: StatusFilter) -> Choices:
    """Return the values that messages of the time have. Only the time of the filter counts."""
    raise NotImplementedError(engine, chosen)
