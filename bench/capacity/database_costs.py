"""Measure the bytes that ``store`` needs in tables and in PostgreSQL's write-ahead log, and the pages that it changes.

PostgreSQL counts the pages itself: after a checkpoint its log gets a copy of each page that is changed for the first
time.
"""

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.rig.databases import Databases, Postgresql, Sqlite, postgresql
from bench.rig.payloads import STATUSES
from bench.rig.statuses import signed_entries, sized_payloads
from stream.entry import EntryId
from worker.events.event import StatusEvent
from worker.events.vonage import parse
from worker.store.database import open_engine
from worker.store.handler import Store

SIZES = (400, 800, 1600, 3200, 12_800)
EVENTS = 15_000
BATCH = 3_000
PAGES_OF_EVENTS = 45_000
PAGES_SIZE = 560
SAMPLED_MESSAGES = 15
TAIL = 3_000
WARM_UP = 10
SETTLE_SECONDS = 2.0

Sizes = list[tuple[int, float]]

_POSTGRESQL_BYTES = "SELECT pg_total_relation_size('{table}')"
_SQLITE_BYTES = (
    "SELECT sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_schema WHERE tbl_name = '{table}')"
)


def measure_postgresql(folder: Path) -> dict[str, Any]:
    """Return the sizes in PostgreSQL."""
    with postgresql(folder) as server:
        return asyncio.run(_measure_sizes(server, _POSTGRESQL_BYTES))


def measure_writes(folder: Path) -> dict[str, Any]:
    """Return the writes of PostgreSQL."""
    with postgresql(folder) as server:
        return asyncio.run(_measure_writes(server))


def measure_sqlite(folder: Path) -> dict[str, Any]:
    """Return the sizes in SQLite."""
    return asyncio.run(_measure_sizes(Sqlite(folder), _SQLITE_BYTES))


def make_events(number: int, size: int) -> list[StatusEvent]:
    """Return the events of statuses of this size."""
    entries = signed_entries(sized_payloads(number, size))
    return [parse(entry, str(EntryId(0, entry.received_ms, 0))) for entry in entries]


async def read(engine: AsyncEngine, sql: str) -> int:
    """Return the number that the statement reads."""
    async with engine.connect() as connection:
        return int((await connection.execute(text(sql))).scalar_one())


async def store_events(engine: AsyncEngine, events: list[StatusEvent], batch: int = BATCH) -> None:
    """Store the events in batches."""
    store = Store(engine)
    for start in range(0, len(events), batch):
        await store.handle(events[start : start + batch])


async def _measure_sizes(databases: Databases, sql: str) -> dict[str, Any]:
    """Return the bytes of an event by size of its payload, in its table and in the log, and those of a message."""
    event_bytes: Sizes = []
    log_bytes: Sizes = []
    for size in SIZES:
        engine = open_engine(databases.fresh())
        try:
            logged = await _logged_bytes(engine)
            await store_events(engine, make_events(EVENTS, size))
            log_bytes.append((size, (await _logged_bytes(engine) - logged) / EVENTS))
            event_bytes.append((size, await _row_bytes(engine, sql, "status_events")))
            message_bytes = await _row_bytes(engine, sql, "messages")
        finally:
            await engine.dispose()
    logs = {"log_bytes": log_bytes} if isinstance(databases, Postgresql) else {}
    return {"event_bytes": event_bytes, "message_bytes": message_bytes, **logs}


async def _row_bytes(engine: AsyncEngine, sql: str, table: str) -> float:
    """Return the bytes of the table and its indexes for each row."""
    rows = await read(engine, f"SELECT count(*) FROM {table}")  # noqa: S608 - our own names
    return await read(engine, sql.format(table=table)) / rows


async def _logged_bytes(engine: AsyncEngine) -> int:
    return (
        await read(engine, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn") if engine.dialect.name == "postgresql" else 0
    )


async def _measure_writes(server: Postgresql) -> dict[str, float]:
    """Return the pages that an event changes in large tables, the bytes of the indexes, the CPU time of a batch."""
    url = server.fresh()
    events = make_events(PAGES_OF_EVENTS + TAIL, PAGES_SIZE)
    engine = open_engine(url)
    try:
        await store_events(engine, events[:PAGES_OF_EVENTS])
        async with engine.connect() as connection:
            await connection.execute(text("CHECKPOINT"))
        index_bytes = {
            table: await read(engine, f"SELECT pg_indexes_size('{table}')")
            / await read(engine, f"SELECT count(*) FROM {table}")  # noqa: S608 - our own names
            for table in ("status_events", "messages")
        }
    finally:
        await engine.dispose()
    before = await _copied_pages(url)
    sample = _choose_whole_messages(events[PAGES_OF_EVENTS:])
    engine = open_engine(url, keeps_plans=True)
    try:
        await store_events(engine, sample[:WARM_UP], 1)
        started = time.process_time() + server.cpu_seconds()
        await store_events(engine, sample[WARM_UP:], 1)
        cpu_seconds = time.process_time() + server.cpu_seconds() - started
    finally:
        await engine.dispose()  # PostgreSQL publishes its counts when the connections close
    return {
        "pages": (await _copied_pages(url) - before) / len(sample),
        "commit_ms": cpu_seconds / (len(sample) - WARM_UP) * 1000,
        "event_index_bytes": index_bytes["status_events"],
        "message_index_bytes": index_bytes["messages"],
    }


async def _copied_pages(url: str) -> int:
    await asyncio.sleep(SETTLE_SECONDS)
    engine = open_engine(url)
    try:
        return await read(engine, "SELECT wal_fpi FROM pg_stat_wal")
    finally:
        await engine.dispose()


def _choose_whole_messages(events: list[StatusEvent]) -> list[StatusEvent]:
    """Return all statuses of some messages, in their order."""
    messages: dict[str, list[StatusEvent]] = defaultdict(list)
    for event in events:
        messages[event.message_uuid].append(event)
    whole = [group for group in messages.values() if len(group) == len(STATUSES)][:SAMPLED_MESSAGES]
    return [event for order in zip(*whole, strict=True) for event in order]
