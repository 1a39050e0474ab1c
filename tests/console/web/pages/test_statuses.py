"""The figures of the statuses page."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from console.queries.statuses.figures import ErrorCount
from console.web.statuses.delivery_chart import draw_delivery
from console.web.statuses.shares import is_rising
from stream.keys import Shard
from tests.support.http.browser import open_tab
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.samples.events import body, event
from tests.support.streams.stored_messages import store_events
from worker.events.event import StatusEvent
from worker.store.migrate import migrate_at

MARKUP = "<script>alert(1)</script>\"'&"
COURSE = (("submitted", 0), ("delivered", 90))
NOW = datetime.now(UTC).replace(microsecond=0)


def make_event(
    message_uuid: str, status: str, seconds_ago: float, *, account: str = "acc-1", **fields: Any
) -> StatusEvent:
    """Return a status that was reached and received this long ago."""
    at = NOW - timedelta(seconds=seconds_ago)
    payload = body(message_uuid=message_uuid, status=status, timestamp=at.isoformat(), **fields)
    at_ms = int(at.timestamp() * 1000)
    return event(payload, at_ms, f"0/{at_ms}-0", account=account, application=account, verified="jwt")


EVENTS = [
    make_event("m-1", "submitted", 600),
    make_event("m-1", "delivered", 590, usage={"currency": "EUR", "price": "0.0333"}),
    make_event("m-1", "delivered", 590, usage={"currency": "EUR", "price": "0.0333"}),  # sent twice
    make_event("m-2", "submitted", 600, channel="whatsapp"),
    make_event("m-2", "delivered", 500, channel="whatsapp", usage={"currency": "EUR", "price": "0.05"}),
    make_event("m-2", "read", 400, channel="whatsapp", usage={"currency": "EUR", "price": "0"}),
    make_event("m-3", "submitted", 600),
    make_event("m-3", "undeliverable", 300, error={"title": "1180", "detail": "x"}),
    make_event(
        "m-4",
        "rejected",
        300,
        account=MARKUP,
        channel=MARKUP,
        destination={"network_code": MARKUP},
        error={"title": MARKUP, "detail": MARKUP},
    ),
    make_event("m-5", "submitted", 2 * 3600, usage={"currency": "USD", "price": "1.5"}),
    make_event("m-6", "submitted", 10 * 86_400),
]


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard, migrated_url: str) -> AsyncIterator[ConsoleServer]:
    """A console on a database of either kind, with six messages."""
    await store_events(migrated_url, EVENTS)
    async with run_console(tmp_path / "data", valkey_url, shard.name, database_url=migrated_url) as running:
        yield running


@pytest.fixture
async def small_console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    """A console on SQLite, with the same messages."""
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        await store_events(running.settings.database_url, EVENTS)
        yield running


async def test_the_figures_are_those_of_the_sent_webhooks(console: ConsoleServer) -> None:
    """Funnel, split, error codes, cost and open messages equal a count by hand; a repeated webhook counts once."""
    async with console.visit() as person:
        day = (await person.get("/api/v1/statuses")).json()
        month = (await person.get("/api/v1/statuses?span=30d")).json()
        sms = (await person.get("/api/v1/statuses?channel=sms")).json()

    numbers = ("messages", "submitted", "delivered", "read", "rejected", "undeliverable", "open")
    assert [day["counts"][name] for name in numbers] == [5, 4, 2, 1, 1, 1, 1]
    assert [month["counts"][name] for name in numbers] == [6, 5, 2, 1, 1, 1, 2]
    assert [sms["counts"][name] for name in numbers] == [3, 3, 1, 0, 0, 1, 1]
    assert day["counts"]["shares"]["delivered"] == 0.4
    assert day["reads"] == {"read": 1, "messages": 1, "share": 1.0}
    assert {row["label"]: row["messages"] for row in day["groups"]} == {"sms": 3, "whatsapp": 1, MARKUP: 1}
    assert "1180" in [error["code"] for error in day["errors"]["codes"]]
    costs = {(cost["label"], cost["currency"]): cost["amount"] for cost in day["costs"]}
    assert {key: float(amount) for key, amount in costs.items()} == {
        ("sms", "EUR"): 0.0333,
        ("whatsapp", "EUR"): 0.05,
        ("sms", "USD"): 1.5,
    }
    (whatsapp,) = [row for row in day["delivery"] if row["label"] == "whatsapp"]
    assert whatsapp["p50"] == pytest.approx(100, rel=0.06)
    assert [day["open"][name]["number"] for name in ("under_1h", "from_1h_to_24h", "over_24h")] == [0, 1, 1]


async def test_the_page_shows_the_figures_as_text(small_console: ConsoleServer) -> None:
    """Every split is shown, a documented code has its advice and source, and markup is escaped."""
    async with small_console.visit() as person:
        pages = {
            by: await person.get(f"/statuses?by={by}&network=&since=")
            for by in ("channel", "country", "network", "account", "application", "time")
        }
        filtered = (await person.get(f"/statuses?channel={quote(MARKUP)}")).text
        month = (await person.get("/statuses?span=30d&by=time")).text

    text = pages["channel"].text
    assert {page.status for page in pages.values()} == {200}
    assert "became of 5 messages" in text
    assert "WhatsApp" in text
    assert "EUR 0.05" in text
    assert "developer.vonage.com" in text
    assert "/messages?status=open&amp;until=24h" in text
    assert all("<script>" not in page.text for page in pages.values())
    assert all("&lt;script&gt;" in pages[by].text for by in ("channel", "network", "account", "application"))
    assert f">{NOW.day} {NOW:%b}<" in month
    assert "became of 1 message" in filtered
    assert "<script>alert" not in filtered


async def test_each_table_is_a_file(small_console: ConsoleServer) -> None:
    """The CSV files have the rows of the page, and no cell is a formula."""
    async with small_console.visit() as person:
        files = {
            table: list(csv.DictReader(io.StringIO((await person.get(f"/statuses.csv?table={table}")).text)))
            for table in ("counts", "errors", "delivery", "costs")
        }

    assert {row["label"]: row["messages"] for row in files["counts"]} == {"sms": "3", "whatsapp": "1", MARKUP: "1"}
    assert {row["code"]: row["messages"] for row in files["errors"]} == {"1180": "1", MARKUP: "1"}
    assert len(files["delivery"]) == 2
    assert {row["currency"] for row in files["costs"]} == {"EUR", "USD"}


async def test_a_wrong_time_or_split_is_refused(small_console: ConsoleServer) -> None:
    """An unknown parameter, an empty time and one over 400 days are answered 400 with a sentence."""
    wrong = ("span=1y", "since=2026-01-02&until=2026-01-01", "since=1970-01-01", "by=number", "since=soon", "x=1")
    async with small_console.visit() as person:
        pages = [await person.get(f"/statuses?{query}") for query in wrong]
        twins = [await person.get(f"/api/v1/statuses?{query}") for query in wrong]

    assert [answer.status for answer in (*pages, *twins)] == [400] * 2 * len(wrong)
    assert all(twin.json()["fields"] for twin in twins)


async def test_without_the_database_the_page_says_so_and_comes_back(
    tmp_path: Path, valkey_url: str, shard: Shard
) -> None:
    """The page polls by itself until the database answers; a database without messages counts as answered."""
    url = f"sqlite:///{tmp_path / 'late.db'}"
    async with run_console(tmp_path, valkey_url, shard.name, database_url=url) as console, console.visit() as person:
        away, twin = await person.get("/statuses"), await person.get("/api/v1/statuses")
        await migrate_at(url)
        back = await person.get("/statuses")

    assert (away.status, twin.status, back.status) == (503, 503, 200)
    assert "The database does not answer" in away.text
    assert "No messages in this time" in back.text


def test_a_code_rises_by_its_share_of_all_messages() -> None:
    """Twice the messages with twice the errors do not count as a rise, and neither do a few errors."""

    def make_error(messages: int, previous: int) -> ErrorCount:
        return ErrorCount("1180", messages, previous, [], None)

    assert is_rising(make_error(40, 20), 1000, 1000)
    assert not is_rising(make_error(40, 20), 2000, 1000)
    assert not is_rising(make_error(19, 0), 1000, 1000)
    assert not is_rising(make_error(40, 0), 1000, 0)


@pytest.mark.one_process("tabs")
async def test_the_time_to_delivery_is_a_chart(chromium: str, small_console: ConsoleServer) -> None:
    """Chromium draws three lines on a logarithmic scale; one point gives no chart."""
    for hour in range(2, 6):
        times = [make_event(f"d-{hour}", status, hour * 3600 - later) for status, later in COURSE]
        await store_events(small_console.settings.database_url, times)
    async with open_tab(chromium, small_console) as tab:
        await tab.page.goto("/statuses")
        await tab.page.wait_for_selector("[data-chart=delivery] canvas")
        words = await tab.page.locator("[data-chart=delivery] .plot").get_attribute("aria-label")
        assert tab.faults == []

    assert words is not None
    assert words.startswith("Median between ")
    assert draw_delivery([{"label": NOW.isoformat(), "p50": 1.0, "p90": 2.0, "p99": 3.0}]) is None
