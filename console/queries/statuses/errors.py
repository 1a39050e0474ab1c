"""Counts the error codes of messages, from the hourly roll-ups."""

from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.statuses.figures import Errors
from console.queries.statuses.selection import StatusFilter


async def count_errors(engine: AsyncEngine, chosen: StatusFilter, limit: int = 8) -> Errors:
    """Return the most frequent error codes of the messages' current statuses."""
    raise NotImplementedError(engine, chosen, limit)
