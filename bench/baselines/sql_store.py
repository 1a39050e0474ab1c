"""The ``store`` handler and its baselines: its SQL statements sent by SQLAlchemy Core alone, and COPY of its rows.

``python -m bench.baselines.sql_store SCRATCH ENTRIES BATCH`` lets the handler store ENTRIES statuses in the scratch
database, in batches, and records each statement with its parameters, rows as the driver takes them. For each line
``WAY URL`` of standard input it then writes the same batches to that database, one transaction a batch, and writes the
events per second on a line. The first tenth is not counted, as in ``bench.rig.consumption``.
"""

import gc
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import uvloop
from sqlalchemy import event

from bench.rig.consumption import SKIPPED
from bench.rig.payloads import payloads
from bench.rig.statuses import entries
from stream.entry import EntryId
from worker.events.event import StatusEvent
from worker.events.vonage import parse
from worker.store.database import open_engine
from worker.store.handler import Store
from worker.store.postgresql.url import SCHEMES, connect_arguments

LONGEST_SECONDS = 120
READY = "ready"
BY_ENGINE = "BEGIN"
"""The engine itself sends this at the start of a transaction."""

Statements = list[tuple[Any, Any]]
Write = Callable[[int], Awaitable[None]]
"""Writes the batch at this place, in one transaction."""


@dataclass(slots=True)
class Recording:
    """Batches of events, the statements of the handler for each, and the rows that it left."""

    batches: Sequence[Sequence[StatusEvent]]
    statements: list[Statements] = field(default_factory=list)
    rows: Sequence[Mapping[str, Sequence[Any]]] = ()
    """By table, for each batch; only of PostgreSQL."""


async def record(scratch: str, number: int, size: int) -> Recording:
    """Let the handler store ``number`` events, ``size`` in a batch."""
    events = [parse(entry, str(EntryId(0, 1, seq))) for seq, entry in enumerate(entries(payloads(number)))]
    recording = Recording([events[start : start + size] for start in range(0, number, size)])
    engine = open_engine(scratch, create=True)
    sent = recording.statements

    @event.listens_for(engine.sync_engine, "before_execute")
    def note(_connection: Any, statement: Any, many: Any, parameters: Any, _options: Any) -> None:
        sent[-1].append((statement, many or parameters))

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note_driver_sql(_connection: Any, _cursor: Any, sql: str, parameters: Any, context: Any, _many: bool) -> None:
        if context.compiled is None and not sql.startswith(BY_ENGINE):  # statements of SQLAlchemy Core are noted above
            sent[-1].append((sql, parameters))

    try:
        store = Store(engine)
        for batch in recording.batches:
            sent.append([])
            await store.handle(batch)
    finally:
        await engine.dispose()
    if scratch.startswith(SCHEMES):
        recording.rows = await read_rows(scratch, recording.batches)
    return recording


async def read_rows(url: str, batches: Sequence[Sequence[StatusEvent]]) -> Sequence[Mapping[str, Sequence[Any]]]:
    """Return the rows of events by batch, and those of messages with the batch of their first event."""
    connection = await asyncpg.connect(**connect_arguments(url))
    try:
        events = {row["event_id"]: row for row in await connection.fetch("SELECT * FROM status_events")}
        messages = {row["message_uuid"]: row for row in await connection.fetch("SELECT * FROM messages")}
    finally:
        await connection.close()
    return [
        {
            "status_events": [events[each.event_id] for each in batch],
            "messages": [messages.pop(each.message_uuid) for each in batch if each.message_uuid in messages],
        }
        for batch in batches
    ]


@asynccontextmanager
async def open_store(url: str, recording: Recording) -> AsyncIterator[Write]:
    """Yield a function that lets the handler write a batch."""
    engine = open_engine(url, keeps_plans=True)
    store = Store(engine)
    try:
        yield lambda place: store.handle(recording.batches[place])
    finally:
        await engine.dispose()


@asynccontextmanager
async def open_statements(url: str, recording: Recording) -> AsyncIterator[Write]:
    """Yield a function that sends the recorded statements of a batch."""
    engine = open_engine(url, keeps_plans=True)

    async def send(place: int) -> None:
        async with engine.begin() as connection:
            for statement, parameters in recording.statements[place]:
                if isinstance(statement, str):
                    result = await connection.exec_driver_sql(statement, parameters)
                else:
                    result = await connection.execute(statement, parameters)
                if result.returns_rows:
                    result.all()

    try:
        yield send
    finally:
        await engine.dispose()


@asynccontextmanager
async def open_copy(url: str, recording: Recording) -> AsyncIterator[Write]:
    """Yield a function that copies the rows of a batch into the tables of PostgreSQL. It reads and merges nothing."""
    connection = await asyncpg.connect(**connect_arguments(url))

    async def copy(place: int) -> None:
        async with connection.transaction():
            for table, rows in recording.rows[place].items():
                await connection.copy_records_to_table(table, records=rows)

    try:
        yield copy
    finally:
        await connection.close()


STORE, STATEMENTS, COPY = "store", "statements", "copy"
WAYS: Mapping[str, Callable[[str, Recording], AbstractAsyncContextManager[Write]]] = {
    STORE: open_store,
    STATEMENTS: open_statements,
    COPY: open_copy,
}


async def rate(way: str, url: str, recording: Recording) -> float:
    """Return the events per second at which the database takes the batches."""
    skipped = max(1, int(len(recording.batches) * SKIPPED))
    async with WAYS[way](url, recording) as write:
        for place in range(skipped):
            await write(place)
        began = time.perf_counter()
        for place in range(skipped, len(recording.batches)):
            await write(place)
        return sum(map(len, recording.batches[skipped:])) / (time.perf_counter() - began)


def await_ready(child: subprocess.Popen[bytes]) -> None:
    """Return when the child has recorded all statements."""
    assert _line(child) == READY, f"{child.args!r} failed"


def ask(child: subprocess.Popen[bytes], way: str, url: str) -> float:
    """Return the child's rate on this database."""
    assert child.stdin is not None
    child.stdin.write(f"{way} {url}\n".encode())
    child.stdin.flush()
    return float(_line(child))


def _line(child: subprocess.Popen[bytes]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().decode().strip()


def main() -> None:
    """Record, then answer line after line; an alarm ends the process after LONGEST_SECONDS for a line."""
    scratch, number, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    signal.alarm(LONGEST_SECONDS)
    recording = uvloop.run(record(scratch, number, size))
    gc.collect()
    gc.freeze()  # keep the garbage collector from scanning the recording during the measurement
    signal.alarm(0)
    print(READY, flush=True)
    for line in sys.stdin:
        signal.alarm(LONGEST_SECONDS)
        way, url = line.strip().split(" ", 1)
        print(uvloop.run(rate(way, url, recording)), flush=True)
        signal.alarm(0)


if __name__ == "__main__":
    main()
