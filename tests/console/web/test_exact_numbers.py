"""The numbers of Overview and Statuses equal a count of the sent webhooks, made outside of the product."""

import asyncio
import contextlib
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from console.simulate.plan import latest_start
from console.up.valkey import find_free_port
from stream.keys import Shard
from tests.support.http.console_server import Visitor, run_console
from tests.support.http.counted_webhooks import (
    SECRETS,
    CountingSender,
    ExpectedMessage,
    SignedWebhook,
    count_messages,
    count_statuses,
    measure_delivery,
    plan_webhooks,
    split_messages,
)
from tests.support.http.page_numbers import (
    FUNNEL,
    WORKERS,
    Row,
    expect_overview,
    expect_statuses,
    pick_overview,
    pick_statuses,
)
from tests.support.processes import Ingest, Process, Valkey, ackstream
from tests.support.waiting import PATIENCE_SECONDS, until
from worker.store.migrate import migrate_at

MESSAGES = 70  # for each account
PER_SECOND = 60.0
LAG_SECONDS = 2.0
STEP_SECONDS = 0.25
SWIFT_SECONDS = 0.3
LEAST_READINGS = 20
STATUSES = "/api/v1/statuses?span=7d"
SPLITS = ("channel", "country", "network", "account", "application", "time")
HANDLER = """
from ackstream import Discard


async def handle(event):
    if event.status == "rejected":
        raise Discard("rejected")
"""
HANDLERS = ("store", "again=store", "orders=orders:handle")

Count = Callable[[Sequence[SignedWebhook]], Counter[str]]


@contextlib.contextmanager
def run_workers(folder: Path, **settings: str) -> Iterator[list[tuple[Process, int]]]:
    """Run two worker processes, each with two groups that store and one that fails for rejected messages."""
    (folder / "orders.py").write_text(HANDLER)
    arguments = [part for handler in HANDLERS for part in ("--handler", handler)]
    with contextlib.ExitStack() as stack:
        workers = []
        for _ in range(WORKERS):
            port = find_free_port()
            process = ackstream("worker", *arguments, folder=folder, admin_port=str(port), **settings)
            workers.append((stack.enter_context(process), port))
        yield workers


@dataclass(slots=True)
class Watch:
    """Compares the growing numbers of both pages with the webhooks that were answered."""

    person: Visitor
    sender: CountingSender
    lags: list[float] = field(default_factory=list)
    read_seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    accounts: set[int] = field(default_factory=set)
    signed_shares: set[float] = field(default_factory=set)

    @property
    def is_swift(self) -> bool:
        """Whether the machine had time for all processes, so that rates and delays say something."""
        return len(self.lags) >= LEAST_READINGS and statistics.median(self.read_seconds) <= SWIFT_SECONDS

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Read both pages again and again while the block runs."""
        task = asyncio.create_task(self._read_on())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _read_on(self) -> None:
        while True:
            asked_at = time.time()
            overview, statuses = await read_pages(self.person)
            self.read_seconds.append(time.time() - asked_at)
            provider = overview["flow"]["provider"]
            self.accounts.add(provider["accounts"])
            if provider["signed_share"] is not None:
                self.signed_shares.add(round(provider["signed_share"], 6))
            self._compare(asked_at, {"entries": overview["flow"]["redis"]["entries"] or 0}, count_entries)
            self._compare(asked_at, {name: statuses["counts"][name] for name in FUNNEL}, count_funnel)
            await asyncio.sleep(0.2)

    def _compare(self, asked_at: float, shown: Mapping[str, int], count: Count) -> None:
        """Note by how many seconds the numbers are behind, and each that is above the sent webhooks."""
        most = count(self.sender.sent)
        self.wrong += [f"{name} {number}, sent {most[name]}" for name, number in shown.items() if number > most[name]]
        lag = 0.0
        while any(shown[name] < number for name, number in count(self.sender.list_answered(asked_at - lag)).items()):
            lag += STEP_SECONDS
        self.lags.append(lag)


def count_entries(webhooks: Sequence[SignedWebhook]) -> Counter[str]:
    """Count the webhooks."""
    return Counter(entries=len(webhooks))


def count_funnel(webhooks: Sequence[SignedWebhook]) -> Counter[str]:
    """Count the numbers of the funnel that only grow."""
    counts = count_statuses(count_messages(webhooks))
    return Counter({name: counts[name] for name in FUNNEL})


async def read_pages(person: Visitor, by: str = "channel") -> tuple[Any, Any]:
    """Return the JSON of Overview and Statuses."""
    overview, statuses = [await person.get(path) for path in ("/api/v1/overview", f"{STATUSES}&by={by}")]
    assert (overview.status, statuses.status) == (200, 200)
    return overview.json(), statuses.json()


async def check_at_rest(person: Visitor, sender: CountingSender) -> None:
    """Wait until all numbers of both pages equal the sent webhooks; fail with those that do not."""
    webhooks = [webhook for _, webhook in sender.answered]
    messages = count_messages(webhooks)
    deadline = time.monotonic() + PATIENCE_SECONDS
    for by in SPLITS:
        while True:
            overview, statuses = await read_pages(person, by)
            shown = pick_overview(overview) | pick_statuses(statuses)
            expected = expect_overview(webhooks) | expect_statuses(messages, by)
            if shown == expected:
                break
            if time.monotonic() > deadline:
                assert shown == expected
            await asyncio.sleep(0.1)
        check_delivery(statuses["delivery"], split_messages(messages, by))


def check_delivery(rows: Sequence[Row], groups: Mapping[str, Sequence[ExpectedMessage]]) -> None:
    """Check the percentiles of each group: they are in buckets, so at most 5 % off."""
    expected = {label: figures for label, group in groups.items() if (figures := measure_delivery(group))["messages"]}
    assert {row["label"]: row["messages"] for row in rows} == {
        label: figures["messages"] for label, figures in expected.items()
    }
    for row in rows:
        figures = expected[row["label"]]
        for name in ("p50", "p90", "p99"):
            assert row[name] == pytest.approx(figures[name], rel=0.051), (row, figures)


async def check_spooled(person: Visitor, sender: CountingSender, before: int) -> None:
    """Without Redis all new webhooks are counted as spooled, and Statuses keeps its numbers."""
    spooled = [webhook for _, webhook in sender.answered[before:]]

    async def is_counted() -> bool:
        overview, _ = await read_pages(person)
        return bool(overview["flow"]["spool"]["entries"] == len(spooled))

    await until(is_counted)
    _, statuses = await read_pages(person)
    messages = count_messages(webhook for _, webhook in sender.answered[:before])
    assert pick_statuses(statuses) == expect_statuses(messages, "channel")


async def check_charts(person: Visitor, admin_urls: Sequence[str], webhooks: int) -> None:
    """The areas below the lines become the numbers that the processes have counted, whenever they were read."""
    labels = {"ackstream_webhooks_total": "Webhooks", "ackstream_events_handled_total": "Events handled"}
    counted: Counter[str] = Counter()
    async with aiohttp.ClientSession() as http:
        for url in admin_urls:
            async with http.get(f"{url}/metrics") as answer:
                for family in text_string_to_metric_families(await answer.text()):
                    for sample in family.samples:
                        if sample.name in labels:
                            counted[labels[sample.name]] += round(sample.value)
    assert counted["Webhooks"] == webhooks
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (areas := await measure_areas(person)) != pytest.approx(counted, rel=0.001):
        assert time.monotonic() < deadline, (areas, counted)
        await asyncio.sleep(0.2)


async def measure_areas(person: Visitor) -> dict[str, float]:
    """Return the area below each line of the first chart."""
    charts = (await person.get("/api/v1/overview/series")).json()
    return {
        line["label"]: sum(value or 0.0 for value in line["values"]) * charts["step_seconds"]
        for line in charts["lines"]["rate"]
    }


async def wait_for_charts(person: Visitor) -> None:
    """Wait for the second step of the charts: of the first one the console has seen only the end."""

    async def has_steps() -> bool:
        lines = (await person.get("/api/v1/overview/series")).json()["lines"]["rate"]
        return all(sum(value is not None for value in line["values"]) > 1 for line in lines)

    await until(has_steps)


async def test_both_pages_equal_the_sent_webhooks(tmp_path: Path, shard: Shard, postgresql_url: str) -> None:
    """With repeats, disorder, several writers and an outage, numbers follow within 2 s and are exact at rest."""
    now = datetime.now(UTC)
    starts = {
        "acc-old": now - timedelta(hours=30),
        "acc-mid": now - timedelta(hours=3),
        "acc-new": latest_start(MESSAGES, now),
    }
    plans = [plan_webhooks(MESSAGES, seed, *account) for seed, account in enumerate(starts.items())]
    phases = [
        [webhook for each in zip(*(plan[part::3] for plan in plans), strict=False) for webhook in each]
        for part in range(3)
    ]
    valkey = Valkey(tmp_path / "valkey")
    await migrate_at(postgresql_url)
    async with valkey.run(), run_all(tmp_path, valkey.url, shard, postgresql_url) as (urls, person):
        sender = CountingSender(urls[0], PER_SECOND)
        watch = Watch(person, sender)
        await wait_for_charts(person)
        async with watch.run():
            await sender.send(phases[0])
        await check_at_rest(person, sender)

        valkey.kill()
        before = len(sender.answered)
        await sender.send(phases[1])
        await check_spooled(person, sender, before)

        await valkey.start()
        await check_at_rest(person, sender)
        async with watch.run():
            await sender.send(phases[2])
        await check_at_rest(person, sender)
        await check_charts(person, urls[1:], len(sender.sent))

    assert len(sender.answered) == len(sender.sent)
    assert watch.wrong == []
    assert watch.signed_shares <= {1.0}
    if watch.is_swift:
        assert max(watch.accounts) == len(plans)
        assert statistics.median(watch.lags) <= LAG_SECONDS, watch.lags


@contextlib.asynccontextmanager
async def run_all(
    folder: Path, redis_url: str, shard: Shard, database_url: str
) -> AsyncIterator[tuple[Sequence[str], Visitor]]:
    """Run ingest, two workers and a console; yields the URLs for webhooks and for metrics, and a person."""
    data = folder / "data"
    common = {"redis_url": redis_url, "stream": shard.name, "data": str(data), "database_url": database_url}
    ingest = Ingest(folder, signatures="required", signature_secrets=SECRETS, **common)
    with run_workers(folder, **common) as workers:
        for process, port in workers:
            await process.is_ready(port)
        ports = [ingest.admin_port, *(port for _, port in workers)]
        admin_urls = [f"http://127.0.0.1:{port}" for port in ports]
        async with (
            ingest.run(),
            run_console(
                data, redis_url, shard.name, database_url=database_url, console_scrape=",".join(admin_urls)
            ) as console,
            console.visit() as person,
        ):
            yield [ingest.url, *admin_urls], person
