"""Measure the console's reads on many messages: ``python -m bench.scenarios.console.queries``.

It fills an empty database (default 5 million messages and 15 million events in PostgreSQL, 1 million messages in
SQLite), asks each question many times with other values, and prints the median and the 95th percentile of the time
until the answer is there, with the stated limit. It exits 1 if a limit is missed.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from bench.rig.databases import Databases, Sqlite, postgresql
from bench.rig.filled_tables import APPLICATIONS, CHANNELS, ERRORS, NETWORKS, Samples, fill
from console.queries.statuses.costs import sum_costs
from console.queries.statuses.delivery import measure_delivery
from console.queries.statuses.errors import count_errors
from console.queries.statuses.funnel import count_groups, count_messages, list_choices
from console.queries.statuses.open_messages import count_open
from console.queries.statuses.search import MessageFilter, find_messages
from console.queries.statuses.selection import StatusFilter
from worker.store.database import open_engine

UNTIL = datetime(2026, 11, 30, tzinfo=UTC)
DAYS = 30

Ask = Callable[[int], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, with another value for each number."""

    name: str
    limit_ms: float | None
    ask: Ask


def questions(engine: AsyncEngine, samples: Samples) -> Iterator[Question]:
    """Yield all questions."""
    yield from searches(engine, samples)
    yield from lists(engine)
    yield from counts(engine)


def searches(engine: AsyncEngine, samples: Samples) -> Iterator[Question]:
    """Yield the searches by one text."""
    for name, limit, texts in (
        ("search by message id", 50, samples.ids),
        ("search by client_ref", 50, samples.client_refs),
        ("search by event id", 50, samples.event_ids),
        ("search by entry id", 50, samples.entries),
        ("search by number", 200, samples.numbers),
        ("search without a result", 200, [f"{text}x" for text in samples.ids]),
    ):

        async def search(number: int, texts: list[str] = texts) -> None:
            await find_messages(engine, MessageFilter(text=texts[number % len(texts)]))

        yield Question(name, limit, search)


def lists(engine: AsyncEngine) -> Iterator[Question]:
    """Yield the lists of messages of 30 days."""
    month = {"since": UNTIL - timedelta(days=DAYS), "until": UNTIL}
    filters: Sequence[tuple[str, list[dict[str, Any]]]] = (
        ("list, newest", [{}]),
        ("list by status", [{"status": status} for status in ("delivered", "rejected", "undeliverable", "read")]),
        ("list by channel and account", [{"channel": c, "account": a} for c in CHANNELS for a, _ in APPLICATIONS]),
        ("list by a status that no message has", [{"status": "no-such"}]),
        ("list by error", [{"error": error} for error in ERRORS]),
        ("list by error and channel", [{"error": error, "channel": "rcs"} for error in ERRORS]),
        ("list of open messages, over 24 h", [{"is_open": True, "until": UNTIL - timedelta(days=1)}]),
        ("list by an account without messages", [{"account": "none"}]),
    )
    for name, values in filters:

        async def list_pages(number: int, values: list[dict[str, Any]] = values) -> None:
            await find_messages(engine, MessageFilter(**(month | values[number % len(values)])))

        yield Question(name, 300, list_pages)

    async def turn_pages(number: int) -> None:
        after = f"{(UNTIL - timedelta(hours=number * 7 % 700)).isoformat()}_x"
        await find_messages(engine, MessageFilter(status="rejected"), after)

    yield Question("list by status, later page", 300, turn_pages)


def counts(engine: AsyncEngine) -> Iterator[Question]:
    """Yield the figures of the page of statuses, for 30 days."""
    month = StatusFilter(since=UNTIL - timedelta(days=DAYS), until=UNTIL)

    def of(number: int) -> StatusFilter:
        network = NETWORKS[number % len(NETWORKS)] if number % 2 else None
        return StatusFilter(since=month.since, until=month.until, network=network)

    yield Question("funnel", 300, lambda _: count_messages(engine, month))
    yield Question("funnel of a network", 300, lambda number: count_messages(engine, of(2 * number + 1)))
    yield Question("funnel by country", 300, lambda number: count_groups(engine, of(number), "country"))
    yield Question("funnel by day", 300, lambda number: count_groups(engine, of(number), "time"))
    yield Question("open messages by age", 300, lambda number: count_open(engine, UNTIL - timedelta(minutes=number)))
    yield Question("errors with trend", None, lambda number: count_errors(engine, of(number)))
    yield Question("costs by channel", None, lambda number: sum_costs(engine, of(number), "channel"))
    yield Question("delivery times by channel", None, lambda number: measure_delivery(engine, of(number), "channel"))
    yield Question("choices of the filters", None, lambda _: list_choices(engine, month))


async def measure(url: str, number: int, rounds: int) -> bool:
    """Fill the database, ask all questions, print the times. Return whether all limits are met."""
    began = time.perf_counter()
    writer = open_engine(url)
    samples = await fill(writer, number, UNTIL, DAYS)
    await writer.dispose()
    print(f"{number:,} messages filled in {time.perf_counter() - began:.0f} s")
    engine, all_are_met = open_engine(url, read_only=True), True
    for question in questions(engine, samples):
        times = sorted([await _measure_once(question.ask, place) for place in range(rounds)])
        p50, p95 = times[len(times) // 2], times[-1 - len(times) // 20]
        is_met = question.limit_ms is None or p95 <= question.limit_ms
        all_are_met &= is_met
        limit = "" if question.limit_ms is None else f"limit {question.limit_ms:.0f} ms {'' if is_met else 'MISSED'}"
        print(f"  {question.name:40} p50 {p50:7.1f} ms  p95 {p95:7.1f} ms  {limit}", flush=True)
    await engine.dispose()
    return all_are_met


async def _measure_once(ask: Ask, number: int) -> float:
    began = time.perf_counter()
    await ask(number)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Measure on the chosen databases."""
    parser = argparse.ArgumentParser(prog="bench.scenarios.console.queries", description=__doc__)
    parser.add_argument("--postgresql", type=int, default=5_000_000, help="messages in PostgreSQL (default 5000000)")
    parser.add_argument("--sqlite", type=int, default=1_000_000, help="messages in SQLite (default 1000000)")
    parser.add_argument("--rounds", type=int, default=40, help="times that each question is asked (default 40)")
    parser.add_argument("--folder", type=Path, help="where to put the databases (default a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ackstream-bench-", dir=arguments.folder) as name:
        folder, results = Path(name), []
        if arguments.sqlite:
            results.append(_measure_on(Sqlite(folder), arguments.sqlite, arguments.rounds))
        if arguments.postgresql:
            with postgresql(folder) as server:
                results.append(_measure_on(server, arguments.postgresql, arguments.rounds))
    sys.exit(not all(results))


def _measure_on(databases: Databases, number: int, rounds: int) -> bool:
    print(databases.kind, flush=True)
    return asyncio.run(measure(databases.fresh(), number, rounds))


if __name__ == "__main__":
    main()
