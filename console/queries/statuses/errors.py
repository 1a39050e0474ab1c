"""Counts the error codes of messages, from the hourly roll-ups."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from console.queries.codes.error_codes import explain_code
from console.queries.statuses.figures import ErrorCount, Errors
from console.queries.statuses.reading import open_reader
from console.queries.statuses.selection import StatusFilter
from console.queries.statuses.sums import list_periods, period_of, read_dimensions, sum_by_dimension, sum_by_hour
from worker.store.tables import rollup_dimensions, status_rollups


async def count_errors(engine: AsyncEngine, chosen: StatusFilter, limit: int = 8) -> Errors:
    """Return the most frequent error codes of the messages' current statuses."""
    async with open_reader(engine) as connection:
        counts = await _count_codes(connection, chosen)
        previous = await _count_codes(connection, chosen.previous())
        ranked = sorted(counts, key=lambda code: (-counts[code], code))
        trends = await _read_trends(connection, chosen, ranked[:limit])
    periods = list_periods(chosen)
    return Errors(
        [
            ErrorCount(
                code,
                counts[code],
                previous[code],
                [(period, trends[code][period]) for period in periods],
                explain_code(code),
            )
            for code in ranked[:limit]
        ],
        len(ranked[limit:]),
        sum(counts[code] for code in ranked[limit:]),
    )


async def _count_codes(connection: AsyncConnection, chosen: StatusFilter) -> Counter[str]:
    counts = Counter[str]()
    for dimension, (messages,) in (await sum_by_dimension(connection, chosen, status_rollups.c.messages)).items():
        if dimension.error_code and messages:
            counts[dimension.error_code] += messages
    return counts


async def _read_trends(
    connection: AsyncConnection, chosen: StatusFilter, codes: Sequence[str]
) -> Mapping[str, Counter[datetime]]:
    """Return the numbers of messages with each code by hour or day."""
    dimensions = await read_dimensions(connection, chosen)
    ids = {key: dimension for key, dimension in dimensions.items() if dimension.error_code in codes}
    column = rollup_dimensions.c.error_code
    rows = await sum_by_hour(connection, chosen, ids, column, status_rollups.c.messages)
    trends: defaultdict[str, Counter[datetime]] = defaultdict(Counter)
    for hour, code, messages in rows:
        trends[code][period_of(hour, chosen)] += int(messages)
    return trends
