"""Counts the messages that still have no final status, by age."""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from console.queries.statuses.figures import Capped, OpenMessages
from console.queries.statuses.reading import open_reader
from worker.store.contribution import FINAL
from worker.store.tables import messages, status_rollups


async def count_open(engine: AsyncEngine, now: datetime) -> OpenMessages:
    """Return the numbers by age. ``find_messages`` lists them, with ``is_open`` and ``until``."""
    async with open_reader(engine) as connection:
        over_1h = await _count_before(connection, now - timedelta(hours=1))
        over_24h = await _count_before(connection, now - timedelta(hours=24))
        all_open = int((await connection.execute(select(func.sum(status_rollups.c.open)))).scalar() or 0)
    numbers = (all_open - over_1h, over_1h - over_24h, over_24h)
    return OpenMessages(*(Capped(number, is_exact=True) for number in numbers))


async def _count_before(connection: AsyncConnection, end: datetime) -> int:
    """Return how many open messages had their first status before this time: whole hours from the roll-ups."""
    hour = end.replace(minute=0, second=0, microsecond=0)
    whole = select(func.sum(status_rollups.c.open)).where(status_rollups.c.hour < hour)
    rest = select(func.count()).where(
        messages.c.first_at >= hour, messages.c.first_at < end, messages.c.status.not_in(FINAL)
    )
    return int((await connection.execute(whole)).scalar() or 0) + int((await connection.execute(rest)).scalar_one())
