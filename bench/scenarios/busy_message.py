"""Measure how messages with many events delay the events of other messages, on SQLite and PostgreSQL.

``python -m bench.scenarios.busy_message`` stores the statuses of other messages with ``store``, in batches as a worker
reads them: alone, then among those of one message with very many events, then among those of messages with 20 events
each. It prints when the others were stored.
"""

import argparse
import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from bench.rig.databases import Databases, Sqlite, postgresql, rows
from runtime.process import GC_THRESHOLDS
from stream.entry import Entry
from worker.events.event import StatusEvent
from worker.events.vonage import parse
from worker.store.database import open_engine
from worker.store.handler import Store

BATCH = 4000
WORDS = ("submitted", "delivered", "read")
BEGINS_MS = 1_764_000_000_000


def events_of(name: str, messages: int, each: int) -> list[StatusEvent]:
    """Make ``each`` events for each of ``messages`` messages."""
    return [
        parse(
            Entry(
                orjson.dumps(
                    {
                        "message_uuid": f"{name}-{message}",
                        "status": WORDS[number % 3],
                        "timestamp": f"2025-11-24T16:{number // 60 % 60:02}:{number % 60:02}Z",
                        "channel": "sms",
                        "number": number,
                    }
                ),
                "application/json",
                BEGINS_MS + number,
                "bench",
            ),
            f"0/{BEGINS_MS + number}-{message}",
        )
        for number in range(each)
        for message in range(messages)
    ]


async def store(url: str, events: Sequence[StatusEvent]) -> tuple[float, float]:
    """Store them; return after how many seconds the last of the others was there, and everything."""
    engine = open_engine(url, keeps_plans=True)
    handler, began, others_seconds = Store(engine, timeout_seconds=60), time.perf_counter(), 0.0
    try:
        for start in range(0, len(events), BATCH):
            batch = events[start : start + BATCH]
            await handler.handle(batch)
            if any(event.message_uuid.startswith("other") for event in batch):
                others_seconds = time.perf_counter() - began
    finally:
        await engine.dispose()
    return others_seconds, time.perf_counter() - began


def compare(databases: Databases, busy_events: int, many: int, messages: int, seed: int) -> None:
    """Print the times."""
    rest = events_of("other", messages, 1)
    for name, busy in (
        ("the others alone", []),
        (f"with {busy_events:,} events of one message", events_of("busy", 1, busy_events)),
        (f"with 20 events of {many:,} messages each", events_of("busy", many, 20)),
    ):
        events = [*rest, *busy]
        random.Random(seed).shuffle(events)  # noqa: S311 - any order will do
        url = databases.fresh()
        gc.freeze()  # as a worker does, to which the events come one batch at a time
        seconds, all_seconds = asyncio.run(store(url, events))
        assert rows(url)[0] == len(events), "not all events were stored"
        is_done = f"{messages:,} other messages after {seconds:.1f} s, all {len(events):,} after {all_seconds:.1f} s"
        print(f"{databases.kind}, {name}: {is_done}")


def main() -> None:
    """Compare on both databases."""
    parser = argparse.ArgumentParser(prog="bench.scenarios.busy_message", description=__doc__)
    parser.add_argument("--one", type=int, default=100_000, help="events of the one message (default 100000)")
    parser.add_argument("--many", type=int, default=5000, help="messages of 20 events each (default 5000)")
    parser.add_argument("--others", type=int, default=50_000, help="other messages, an event each (default 50000)")
    arguments = parser.parse_args()
    gc.set_threshold(*GC_THRESHOLDS)
    with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as name, postgresql(Path(name)) as server:
        for databases in (Sqlite(Path(name)), server):
            compare(databases, arguments.one, arguments.many, arguments.others, seed=1)


if __name__ == "__main__":
    main()
