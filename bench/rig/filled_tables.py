"""Fills the tables of ``store`` with made-up messages, as many writers would have left them, in minutes for millions.

The rows go past ``store``: PostgreSQL copies them, SQLite takes them in large statements. Their contributions and the
roll-ups are those that ``store`` computes.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.store.contribution import ContributionTally, find_contribution
from worker.store.migrations.indexes import make_indexes
from worker.store.projection import MessageState
from worker.store.rollups import TABLES, Rollups
from worker.store.statements import InsertRows
from worker.store.tables import messages, status_events

CHUNK = 5_000
LONGEST_SECONDS = 3600.0
WRITERS = 4
"""Transactions at the same time in PostgreSQL: each has its slot of the roll-ups."""

SAMPLES = 200

CHANNELS = ("sms", "whatsapp", "rcs", "viber_service", "mms")
CHANNEL_WEIGHTS = (6, 3, 1, 1, 0.001)
"""One message in 10,000 is an MMS: an hour of 5 million messages in a month has less than one."""
APPLICATIONS = tuple((f"acc{number % 2}", f"app-{number}-0f0e-4d0c-1111-222233334444") for number in range(3))
NETWORKS = tuple(f"{mcc}{mnc:02}" for mcc in (234, 262, 208, 310, 404, 222) for mnc in range(1, 6))
NETWORK_WEIGHTS = tuple(1 / place for place in range(1, len(NETWORKS) + 1))
ERRORS = ("1210", "1260", "1000", "1300", "1120", "1240")
_REJECTED, _FAILED, _READ, _ANSWERED = 0.03, 0.04, 0.7, 0.99
"""Shares of the messages, each with those before it."""
_PAYLOAD = orjson.dumps({"message_uuid": "0" * 32, "filler": "x" * 180})
_EVENT_COLUMNS = [column.name for column in status_events.columns if column.key != "query"]


@dataclass(slots=True)
class Samples:
    """Names of some messages, to look for."""

    ids: list[str] = field(default_factory=list)
    client_refs: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)


async def read_samples(engine: AsyncEngine, until: datetime, days: int) -> Samples:
    """Read the names of messages that are spread over the days before ``until``."""
    samples, step = Samples(), timedelta(days=days) / SAMPLES
    columns = (messages.c.message_uuid, messages.c.client_ref, messages.c.to)
    async with engine.connect() as connection:
        for place in range(1, SAMPLES + 1):
            newest = select(*columns).where(messages.c.first_at < until - step * place + step / 2)
            row = (await connection.execute(newest.order_by(messages.c.first_at.desc()).limit(1))).one()
            of_message = status_events.c.message_uuid == row.message_uuid
            events = select(status_events.c.event_id, status_events.c.entry).where(of_message)
            event = (await connection.execute(events.limit(1))).one()
            samples.ids.append(row.message_uuid)
            samples.client_refs.append(str(row.client_ref))
            samples.numbers.append(str(row.to))
            samples.event_ids.append(event.event_id)
            samples.entries.append(event.entry)
    return samples


@dataclass(slots=True)
class _Chunk:
    states: list[MessageState]
    events: list[tuple[Any, ...]]


async def fill(engine: AsyncEngine, number: int, until: datetime, days: int, seed: int = 1) -> None:
    """Fill empty tables with messages of the days before ``until``, evenly."""
    chunks = _make_chunks(number, until, timedelta(days=days), random.Random(seed))  # noqa: S311

    async def write() -> None:
        for chunk in chunks:
            await _write(engine, chunk)

    if engine.dialect.name == "sqlite":
        await write()
        await _execute(engine, "ANALYZE")
        return
    for table in (messages, status_events):
        await _execute(engine, f"ALTER TABLE {table.name} SET UNLOGGED, DROP CONSTRAINT {table.name}_pkey")
        for index in table.indexes:
            await _execute(engine, f"DROP INDEX {index.name}")
    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITERS):
            tasks.create_task(write())
    await _execute(engine, "ALTER TABLE messages ADD PRIMARY KEY (message_uuid)")
    await _execute(engine, "ALTER TABLE status_events ADD PRIMARY KEY (event_id)")
    await make_indexes(engine, lambda _: None)
    for table in (messages, status_events, *TABLES):
        await _execute(engine, f"VACUUM ANALYZE {table.name}")


async def _execute(engine: AsyncEngine, statement: str) -> None:
    """Execute a statement of any length, outside a transaction."""
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        if engine.dialect.name == "postgresql":
            await driver.execute("SET maintenance_work_mem = '512MB'")
            await driver.execute(statement, timeout=LONGEST_SECONDS)
        else:
            await driver.execute(statement)


async def _write(engine: AsyncEngine, chunk: _Chunk) -> None:
    tally = ContributionTally()
    rows = [
        (*state, next(iter(state.statuses.values())), tally.replace(None, find_contribution(state)), False)
        for state in chunk.states
    ]
    async with engine.begin() as connection:
        await Rollups(engine.dialect).add(connection, tally.sum())
        if engine.dialect.name == "postgresql":
            driver: Any = (await connection.get_raw_connection()).driver_connection
            documents = [(*row[:3], orjson.dumps(row[3]).decode(), *row[4:]) for row in rows]
            columns = [column.name for column in messages.columns]
            await driver.execute("SET LOCAL statement_timeout = 0")
            await driver.copy_records_to_table("messages", records=documents, columns=columns, timeout=LONGEST_SECONDS)
            await driver.copy_records_to_table(
                "status_events", records=chunk.events, columns=_EVENT_COLUMNS, timeout=LONGEST_SECONDS
            )
            return
        for table, values in ((messages, rows), (status_events, [(*event[:-1], None, True) for event in chunk.events])):
            upsert = InsertRows(table, engine.dialect)
            await connection.exec_driver_sql(upsert.sql, upsert.parameters(values))


def _make_chunks(number: int, until: datetime, span: timedelta, rng: random.Random) -> Iterator[_Chunk]:
    for start in range(0, number, CHUNK):
        size = min(CHUNK, number - start)
        chunk = _Chunk([], [])
        for place in range(start, start + size):
            at = until - span + span * (place / number)
            state = _make_state(place, at, rng)
            chunk.states.append(state)
            chunk.events += _make_events(place, state, rng)
        yield chunk


def _make_state(place: int, at: datetime, rng: random.Random) -> MessageState:
    """Make a message: most are delivered within seconds, 3 % are rejected, 1 % stay open."""
    channel = rng.choices(CHANNELS, CHANNEL_WEIGHTS)[0]
    account, application = rng.choice(APPLICATIONS)
    seconds, fate = rng.lognormvariate(1, 0.8), rng.random()
    statuses, status, error = {"submitted": at}, "submitted", None
    if fate < _FAILED:
        status = "rejected" if fate < _REJECTED else "undeliverable"
        statuses[status], error = at + timedelta(seconds=seconds), rng.choices(ERRORS, (6, 3, 2, 2, 1, 1))[0]
    elif fate < _ANSWERED:
        status = "delivered"
        statuses[status] = at + timedelta(seconds=seconds)
        if channel != "sms" and fate < _READ:
            status = "read"
            statuses[status] = at + timedelta(seconds=seconds + 60)
    price = None if channel != "sms" and "delivered" not in statuses else "0.0333" if channel == "sms" else "0.0081"
    return MessageState(
        message_uuid=f"{rng.getrandbits(128):032x}",
        status=status,
        status_at=statuses[status],
        statuses=statuses,
        channel=channel,
        to=f"4477{rng.randrange(10**7):08}",
        sender="Shop",
        client_ref=f"order-{place}",
        account=account,
        application=application,
        error_code=error,
        error_text=None,
        price=price,
        currency=price and "EUR",
        parts=1 if channel == "sms" else None,
        network_code=rng.choices(NETWORKS, NETWORK_WEIGHTS)[0] if channel == "sms" else None,
        workflow_id=None,
        workflow_item=None,
        workflow_items=None,
    )


def _make_events(place: int, state: MessageState, rng: random.Random) -> Sequence[tuple[Any, ...]]:
    """Make three events, in the order of the columns without the query: a status is repeated if there are fewer."""
    times = list(state.statuses.items())
    return [
        (
            f"{rng.getrandbits(256):064x}",
            state.message_uuid,
            status,
            status,
            at,
            at,
            f"0/{int(at.timestamp() * 1000)}-{3 * place + number}",
            state.account,
            True,
            state.application,
            _PAYLOAD,
            True,
        )
        for number, (status, at) in enumerate((times * 3)[:3])
    ]
