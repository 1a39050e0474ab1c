"""Baseline: the SQL statements of the ``store`` handler, sent by SQLAlchemy Core alone, rows as the driver takes them.

``python -m bench.baselines.sql_store SCRATCH ENTRIES BATCH`` lets the handler store ENTRIES statuses in the scratch
database, in batches, and records each statement with its parameters. For each database URL on a line of standard input
it then sends all statements to that database, one transaction a batch, and writes the events per second on a line. The
first tenth is not counted, as in ``bench.rig.consumption``.
"""

import gc
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import uvloop
from sqlalchemy import event

from bench.rig.consumption import SKIPPED
from bench.rig.entries import entries
from bench.rig.payloads import payloads
from stream.entry import EntryId
from worker.events.vonage import parse
from worker.store.database import open_engine
from worker.store.handler import Store

LONGEST_SECONDS = 120
READY = "ready"
BY_ENGINE = ("BEGIN", "SELECT set_config")
"""The engine itself sends these at the start of a connection or transaction."""

Statements = list[tuple[Any, Any]]


async def record_statements(scratch: str, number: int, batch: int) -> list[Statements]:
    """Return the statements that the handler sends for each batch."""
    events = [parse(entry, str(EntryId(0, 1, seq))) for seq, entry in enumerate(entries(payloads(number)))]
    engine = open_engine(scratch, create=True)
    sent: list[Statements] = []

    @event.listens_for(engine.sync_engine, "before_execute")
    def note(_connection: Any, statement: Any, many: Any, parameters: Any, _options: Any) -> None:
        sent[-1].append((statement, many or parameters))

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note_driver_sql(_connection: Any, _cursor: Any, sql: str, parameters: Any, context: Any, _many: bool) -> None:
        if context.compiled is None and not sql.startswith(BY_ENGINE):  # statements of SQLAlchemy Core are noted above
            sent[-1].append((sql, parameters))

    try:
        store = Store(engine)
        for start in range(0, number, batch):
            sent.append([])
            await store.handle(events[start : start + batch])
    finally:
        await engine.dispose()
    return sent


async def rate(url: str, batches: Sequence[Statements], number: int) -> float:
    """Return the events per second at which the database takes the batches."""
    engine = open_engine(url, create=True)
    skipped = max(1, int(len(batches) * SKIPPED))
    began = 0.0
    try:
        for place, batch in enumerate(batches):
            if place == skipped:
                began = time.perf_counter()
            async with engine.begin() as connection:
                for statement, parameters in batch:
                    if isinstance(statement, str):
                        result = await connection.exec_driver_sql(statement, parameters)
                    else:
                        result = await connection.execute(statement, parameters)
                    if result.returns_rows:
                        result.all()
        return number * (1 - skipped / len(batches)) / (time.perf_counter() - began)
    finally:
        await engine.dispose()


def await_ready(child: subprocess.Popen[bytes]) -> None:
    """Return when the child has recorded all statements."""
    assert _line(child) == READY, f"{child.args!r} failed"


def ask(child: subprocess.Popen[bytes], url: str) -> float:
    """Return the child's rate on this database."""
    assert child.stdin is not None
    child.stdin.write(f"{url}\n".encode())
    child.stdin.flush()
    return float(_line(child))


def _line(child: subprocess.Popen[bytes]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().decode().strip()


def main() -> None:
    """Record, then answer line after line; an alarm ends the process after LONGEST_SECONDS for a line."""
    scratch, number, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    signal.alarm(LONGEST_SECONDS)
    batches = uvloop.run(record_statements(scratch, number, batch))
    gc.collect()
    gc.freeze()  # keep the garbage collector from scanning the recorded statements during the measurement
    signal.alarm(0)
    print(READY, flush=True)
    for line in sys.stdin:
        signal.alarm(LONGEST_SECONDS)
        print(uvloop.run(rate(line.strip(), batches, number)), flush=True)
        signal.alarm(0)


if __name__ == "__main__":
    main()
