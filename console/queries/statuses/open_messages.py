"""Counts the messages that still have no final status, by age."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.statuses.figures import OpenMessages


async def count_open(engine: AsyncEngine, now: datetime) -> OpenMessages:
    """Return the numbers by age. ``find_messages`` lists them, with ``is_open`` and ``until``."""
    raise NotImplementedError(engine, now)
