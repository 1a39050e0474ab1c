"""The sums of the roll-ups, and the same sums counted from the states of the messages."""

import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.store.projection import MessageState
from worker.store.tables import delivery_rollups, rollup_dimensions, status_rollups

Sums = Counter[tuple[Any, ...]]
"""Amounts by table, name of the amount, hour, channel, account, application, network, currency, error code, bucket."""


async def read_sums(engine: AsyncEngine) -> Sums:
    """Return the sums over all slots, without zeros."""
    sums: Sums = Counter()
    async with engine.connect() as connection:
        labels = {row.id: tuple(row)[1:] for row in await connection.execute(select(rollup_dimensions))}
        for table in (status_rollups, delivery_rollups):
            for row in (await connection.execute(select(table))).mappings():
                rest = tuple(row[column] for column in table.primary_key.columns)[3:]
                for column in table.columns:
                    if not column.primary_key:
                        sums[table.name, column.key, row["hour"], *labels[row["dimension"]], *rest] += row[column]
    return Counter({key: number for key, number in sums.items() if number})


def count_sums(states: Iterable[MessageState]) -> Sums:
    """Count the same from the states."""
    sums: Sums = Counter()
    for state in states:
        reached = {state.status, *state.statuses}
        labels = (state.channel, state.account, state.application, state.network_code, state.currency, state.error_code)
        hour = min(state.statuses.values()).replace(minute=0, second=0, microsecond=0)
        key = (hour, *((label or "")[:64] for label in labels))
        sums["status_rollups", "messages", *key] += 1
        for status in ("submitted", "delivered", "read", "rejected", "undeliverable"):
            sums["status_rollups", status, *key] += status in reached
        sums["status_rollups", "open", *key] += state.status not in {"delivered", "read", "rejected", "undeliverable"}
        if state.price is not None and abs(Decimal(state.price)) <= 10_000:
            sums["status_rollups", "priced", *key] += 1
            sums["status_rollups", "units", *key] += round(Decimal(state.price).scaleb(9))
        if state.statuses.keys() >= {"submitted", "delivered"}:
            bucket = _find_bucket(state.statuses["submitted"], state.statuses["delivered"])
            sums["delivery_rollups", "messages", *key, bucket] += 1
    return Counter({key: number for key, number in sums.items() if number})


def _find_bucket(submitted: datetime, delivered: datetime) -> int:
    """Return the place of the bucket: the first ends at 0.1 s, each next one 10 % later."""
    tenths = (delivered - submitted).total_seconds() / 0.1
    return 0 if tenths <= 1 else min(170, 1 + math.floor(math.log(tenths) / math.log(1.1)))
