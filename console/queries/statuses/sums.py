"""Sums rows of the roll-ups for the messages that a filter selects."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import ARRAY, BigInteger, Column, ColumnElement, Table, any_, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from console.queries.codes.countries import find_country
from console.queries.statuses.selection import Split, StatusFilter
from worker.store.contribution import Dimension
from worker.store.tables import rollup_dimensions, status_rollups

MOST_HOURS = timedelta(days=3)
"""For a longer time, a split by time has days."""


async def read_dimensions(connection: AsyncConnection, chosen: StatusFilter) -> Mapping[int, Dimension]:
    """Return the dimensions that the filter selects, by id."""
    rows = map(Dimension._make, await connection.execute(select(rollup_dimensions)))
    return {dimension.id: dimension for dimension in rows if _matches(dimension, chosen)}


async def sum_by_dimension(
    connection: AsyncConnection, chosen: StatusFilter, *columns: Column[int]
) -> Mapping[Dimension, Sequence[int]]:
    """Return the sums of these columns of ``status_rollups`` for each dimension."""
    dimensions = await read_dimensions(connection, chosen)
    sums = await sum_rows(connection, chosen, dimensions, [status_rollups.c.dimension], columns)
    return {dimensions[row[0]]: [int(number) for number in row[1:]] for row in sums if row[0] in dimensions}


async def sum_rows(
    connection: AsyncConnection,
    chosen: StatusFilter,
    dimensions: Mapping[int, Dimension],
    keys: Sequence[Column[Any]],
    columns: Sequence[Column[int]],
) -> Sequence[Any]:
    """Return the sums of the columns by keys, for the hours of the filter and these dimensions."""
    table: Table = keys[0].table
    statement = (
        select(*keys, *(func.sum(column) for column in columns))
        .where(table.c.hour >= chosen.first_hour, table.c.hour < chosen.end)
        .group_by(*keys)
    )
    if is_narrow(chosen):
        statement = statement.where(is_among(connection, table.c.dimension, dimensions))
    return (await connection.execute(statement)).all()


async def sum_by_hour(
    connection: AsyncConnection,
    chosen: StatusFilter,
    dimensions: Mapping[int, Dimension],
    label: Column[str],
    *columns: Column[int],
) -> Sequence[Any]:
    """Return the sums of columns of ``status_rollups`` by hour and by a column of these dimensions."""
    statement = (
        select(status_rollups.c.hour, label, *(func.sum(column) for column in columns))
        .join(rollup_dimensions, rollup_dimensions.c.id == status_rollups.c.dimension)
        .where(status_rollups.c.hour >= chosen.first_hour, status_rollups.c.hour < chosen.end)
        .where(is_among(connection, status_rollups.c.dimension, dimensions))
        .group_by(status_rollups.c.hour, label)
    )
    return (await connection.execute(statement)).all()


def is_among(connection: AsyncConnection, column: Column[int], ids: Mapping[int, Any]) -> ColumnElement[bool]:
    """Return the condition that the column is one of the ids, as one parameter."""
    if connection.dialect.name == "postgresql":
        return column == any_(cast(list(ids), ARRAY(BigInteger)))
    return column.in_(select(func.json_each(orjson.dumps(list(ids)).decode()).table_valued("value").c.value))


def is_narrow(chosen: StatusFilter) -> bool:
    """Whether the filter selects by more than time."""
    return any(
        value is not None
        for value in (chosen.channel, chosen.account, chosen.application, chosen.network, chosen.country)
    )


def label_of(dimension: Dimension, split: Split) -> str:
    """Return the value of a dimension in a split, which is not ``time``."""
    if split == "country":
        return find_country(dimension.network) or ""
    label: str = getattr(dimension, split)
    return label


def period_of(hour: datetime, chosen: StatusFilter) -> datetime:
    """Return the start of the hour or day that a split by time shows."""
    return hour if chosen.end - chosen.first_hour <= MOST_HOURS else hour.replace(hour=0)


def list_periods(chosen: StatusFilter) -> list[datetime]:
    """Return the starts of all hours or days of a split by time."""
    number = (chosen.end - chosen.first_hour) // timedelta(hours=1)
    hours = (chosen.first_hour + timedelta(hours=place) for place in range(number))
    return list(dict.fromkeys(period_of(hour, chosen) for hour in hours))


def _matches(dimension: Dimension, chosen: StatusFilter) -> bool:
    return (
        chosen.channel in {None, dimension.channel}
        and chosen.account in {None, dimension.account}
        and chosen.application in {None, dimension.application}
        and chosen.network in {None, dimension.network}
        and (chosen.country is None or chosen.country == (find_country(dimension.network) or ""))
    )
