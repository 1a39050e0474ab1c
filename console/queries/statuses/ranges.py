"""Plans in which hours to look for the messages of a list, from the hourly roll-ups.

Few messages have a rare status or account, and no index finds them: an index that starts with a status would make each
update of a message several times as expensive. The index of error codes finds all messages with a code, also if few of
them have the channel. The roll-ups know the hours that have such messages.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from console.queries.statuses.sums import is_among
from worker.events.text import clean
from worker.store.contribution import FINAL, LONGEST_LABEL
from worker.store.tables import rollup_dimensions, status_rollups

_HOUR = timedelta(hours=1)

Range = tuple[datetime, datetime]


async def plan_ranges(
    connection: AsyncConnection,
    *,
    status: str | None,
    channel: str | None,
    account: str | None,
    error: str | None,
    since: datetime | None,
    before: datetime,
    enough: int,
) -> Sequence[Range]:
    """Return the ranges of time with such messages, newest first. Each has ``enough`` of them, or hours that adjoin.

    ``status`` is None for any, and ``open`` for all that are not final. A message counts with each status that it
    reached, so a range may have fewer. ``since`` is in UTC.
    """
    hour = status_rollups.c.hour
    count = func.sum(status_rollups.c[_count_of(status)])
    statement = select(hour, count).where(hour <= before).group_by(hour).having(count > 0).order_by(hour.desc())
    if since is not None:
        statement = statement.where(hour >= since.replace(minute=0, second=0, microsecond=0))
    values = {"channel": channel, "account": account, "error_code": error}
    labels = {name: clean(value)[:LONGEST_LABEL] for name, value in values.items() if value is not None}
    if labels:
        dimensions = (await connection.execute(select(rollup_dimensions))).mappings()
        ids = {row["id"]: row for row in dimensions if all(row[name] == label for name, label in labels.items())}
        statement = statement.where(is_among(connection, status_rollups.c.dimension, ids))
    ranges: list[Range] = []
    number = 0
    for start, messages in await connection.execute(statement):
        if ranges and ranges[-1][0] == start + _HOUR and number < enough:
            ranges[-1] = start, ranges[-1][1]
            number += int(messages)
        else:
            ranges.append((start, start + _HOUR))
            number = int(messages)
    return ranges


def _count_of(status: str | None) -> str:
    if status is None:
        return "messages"
    return status if status in FINAL else "open"
