"""The list of messages: search, filters, pages and CSV."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosqlite
import pytest
from redis.asyncio import Redis

from console.web.access.roles import Role
from console.web.lists import csv_stream
from console.web.pages import messages
from stream.keys import Shard
from tests.support.http.browser import open_tab
from tests.support.http.console_server import ConsoleServer, Visitor, run_console
from tests.support.samples.events import RECEIVED_MS, body, event
from tests.support.streams.stored_messages import store_events
from tests.support.workers.failing_group import FailingGroup
from worker.events.event import StatusEvent
from worker.store.migrate import migrate_at

NUMBER = "447700900042"
ENTRY = f"0/{RECEIVED_MS}-7"
MARKUP = "<script>alert(1)</script>\"'&"
FILTER_TEXTS = ("q", "status", "channel", "account", "error")


def make_event(message_uuid: str, at: str = "0/1-0", **fields: Any) -> StatusEvent:
    """Return a status at noon."""
    payload = body(message_uuid=message_uuid, timestamp="2025-11-24T12:00:00Z", **fields)
    return event(payload, RECEIVED_MS, at, account="acc-1", verified="jwt")


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard, migrated_url: str) -> AsyncIterator[ConsoleServer]:
    """A console on a database of either kind."""
    async with run_console(tmp_path / "data", valkey_url, shard.name, database_url=migrated_url) as running:
        yield running


@pytest.fixture
async def small_console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


async def list_ids(person: Visitor, query: str) -> list[str]:
    """Return the ids of a page of the list."""
    answer = await person.get(f"/api/v1/messages?{query}")
    assert answer.status == 200, answer.text
    return [row["message_uuid"] for row in answer.json()["messages"]]


async def test_each_kind_of_text_finds_its_message(console: ConsoleServer) -> None:
    """The search takes a message id, client_ref, number in any form, event id and entry id; one match opens it."""
    event = make_event("m-wanted", ENTRY, client_ref="order-7", to=NUMBER)
    await store_events(console.settings.database_url, [event, make_event("m-other", client_ref="order-8", to="1")])

    texts = ("m-wanted", "order-7", NUMBER, f"+{NUMBER}", "+44 7700 900-042", event.event_id, ENTRY)
    async with console.visit() as person:
        ids = {text: await list_ids(person, f"q={quote(text)}") for text in texts}
        pages = {text: await person.get(f"/messages?q={quote(text)}") for text in texts}

    assert [ids[text] for text in texts] == [["m-wanted"]] * len(texts)
    assert {page.status for page in pages.values()} == {303}
    assert pages["order-7"].headers["Location"] == "/messages/m-wanted"
    assert pages[ENTRY].headers["Location"] == f"/messages/m-wanted?entry={ENTRY}"


async def test_an_entry_on_the_stream_names_its_message(
    small_console: ConsoleServer, server: Redis, shard: Shard
) -> None:
    """A repeat has an entry of its own, which the tables do not have; with the stream it leads to its message too."""
    await store_events(small_console.settings.database_url, [make_event("m-wanted")])
    group = FailingGroup(server, shard)
    entry = await group.append(body(message_uuid="m-wanted"))

    async with small_console.visit() as person:
        twin = (await person.get(f"/api/v1/messages?q={quote(entry)}")).json()
        page = await person.get(f"/messages?q={quote(entry.removeprefix('0/'))}")

    assert [row["message_uuid"] for row in twin["messages"]] == ["m-wanted"]
    assert (twin["matched"], twin["waiting"]) == (["entry"], [])
    assert page.headers["Location"] == f"/messages/m-wanted?entry={entry}"


async def test_pages_have_each_message_of_one_second_once(console: ConsoleServer) -> None:
    """The cursor has a tiebreaker, so that messages of the same second are neither lost nor repeated."""
    ids = [f"m-{number:03}" for number in range(130)]
    await store_events(console.settings.database_url, [make_event(name) for name in ids])

    listed, after = [], ""
    async with console.visit() as person:
        while True:
            page = (await person.get(f"/api/v1/messages?{f'after={quote(after)}' if after else ''}")).json()
            listed += [row["message_uuid"] for row in page["messages"]]
            after = page["next"]
            if after is None:
                break
        wrong = await person.get("/api/v1/messages?after=nonsense")

    assert sorted(listed) == ids
    assert (wrong.status, set(wrong.json()["fields"])) == (400, {"after"})


async def test_filters_select_messages(small_console: ConsoleServer) -> None:
    """Status, channel, account, error and time are combined; open means no final status."""
    await store_events(
        small_console.settings.database_url,
        [
            make_event("m-failed", status="undeliverable", channel="rcs", error={"title": "1180"}),
            make_event("m-open", status="submitted"),
            make_event("m-done"),
        ],
    )
    expected = {
        "status=undeliverable": ["m-failed"],
        "status=open": ["m-open"],
        "channel=rcs&status=": ["m-failed"],
        "error=1180": ["m-failed"],
        "account=acc-2": [],
        "account=acc-1&status=delivered": ["m-done"],
        "since=2025-11-24T12:00:01": [],
        "since=2025-11-24T12:00&until=2025-11-24T12:00:01&channel=rcs": ["m-failed"],
        "until=2025-11-24T12:00": [],
    }
    async with small_console.visit() as person:
        listed = {query: await list_ids(person, query) for query in expected}
        page = (await person.get("/messages?status=open")).text
        wrong = await person.get("/messages?since=yesterday")

    assert listed == expected
    assert '<option value="open" selected>' in page
    assert wrong.status == 400
    assert "invalid time" in wrong.text.lower()


async def test_nothing_found_says_where_it_looked(small_console: ConsoleServer) -> None:
    """The page repeats the text, escaped, and names the places; other filters can be dropped."""
    async with small_console.visit() as person:
        page = (await person.get(f"/messages?q={quote(MARKUP)}&channel=sms")).text
        entry = (await person.get("/messages?q=0/1-1")).text
        empty = (await person.get("/messages")).text

    assert "No message matches <b>&lt;script&gt;" in page
    assert "<script>alert" not in page
    assert "dead letters" in page
    assert "search without filters" in page
    assert "the stream, by entry id" in entry
    assert "No messages yet." in empty


async def test_a_webhook_that_no_table_has_is_found_in_redis(
    small_console: ConsoleServer, server: Redis, shard: Shard
) -> None:
    """An unsettled entry is found by its message, a settled one by its entry id."""
    group = FailingGroup(server, shard)
    await group.start()
    entry = await group.append(body(message_uuid="m-1"))
    async with small_console.visit() as person:
        by_message = await person.get("/messages?q=m-1")
        await group.handle()
        by_entry = await person.get(f"/messages?q={entry}")
        settled = await person.get("/messages?q=m-1")

    assert by_message.headers["Location"] == "/messages/m-1"
    assert by_entry.headers["Location"] == f"/messages/m-1?entry={entry}"
    assert settled.status == 200


async def test_markup_in_every_field_of_the_list_is_text(small_console: ConsoleServer) -> None:
    """Script and markup in a row or a filter is escaped."""
    fields = dict.fromkeys(("status", "to", "from", "channel", "client_ref"), MARKUP)
    usage: Any = {"usage": {"currency": MARKUP, "price": "1"}, "error": {"title": MARKUP, "detail": MARKUP}}
    await store_events(small_console.settings.database_url, [make_event(MARKUP, **fields, **usage), make_event("m-2")])
    async with small_console.visit() as person:
        page = await person.get("/messages")
        filtered = [await person.get(f"/messages?{name}={quote(MARKUP)}") for name in FILTER_TEXTS]

    assert page.text.count("&lt;script&gt;alert(1)") >= 4
    assert all("<script>alert" not in answer.text for answer in (page, *filtered))
    assert all(answer.status in (200, 303) for answer in filtered)


@pytest.mark.one_process("tabs")
async def test_long_words_wrap(chromium: str, small_console: ConsoleServer) -> None:
    """A word of 250 letters in every field makes no page wider than the window, wide or narrow."""
    word = "W" * 250
    fields: Any = dict.fromkeys(("status", "to", "from", "channel", "client_ref"), word)
    usage: Any = {"usage": {"currency": word, "price": "1"}, "error": {"title": word, "detail": word}}
    await store_events(small_console.settings.database_url, [make_event("m-1", **fields, **usage)])
    async with open_tab(chromium, small_console) as tab:
        for path in ("/messages", "/messages/m-1", "/statuses?since=2025-11-24&until=2025-11-25"):
            await tab.page.goto(path)
            for width in (1280, 360):
                await tab.page.set_viewport_size({"width": width, "height": 800})
                await tab.fits()
        assert word[:64] in await tab.page.locator("#codes").inner_text()
        assert tab.faults == []


async def test_numbers_are_masked_in_the_list_and_the_file(small_console: ConsoleServer) -> None:
    """Page, JSON and CSV have the last digits only; an operator's export with a reason has them whole."""
    await store_events(small_console.settings.database_url, [make_event("m-1", to=NUMBER), make_event("m-2", to="1")])
    async with small_console.visit() as person, small_console.visit(Role.VIEWER) as viewer:
        masked = [(await viewer.get(path)).text for path in ("/messages", "/api/v1/messages", "/messages.csv")]
        refused = await viewer.post("/messages.csv", {"why": "curious"})
        unreasoned = await person.post("/messages.csv", {})
        export = await person.post("/messages.csv", {"channel": "sms", "why": "ticket 7"})

    assert all(NUMBER not in text and "0042" in text for text in masked)
    assert (refused.status, unreasoned.status, export.status) == (403, 400, 200)
    assert NUMBER in export.text
    async with aiosqlite.connect(small_console.settings.console_database) as database:
        rows = await database.execute_fetchall("SELECT scope, why FROM audit WHERE action = 'messages.export'")
        assert list(rows) == [("channel=sms", "ticket 7")]


async def test_the_file_cannot_run_formulas(small_console: ConsoleServer) -> None:
    """A cell that starts like a formula has an apostrophe in front; all others are as stored."""
    texts = ["=1+1", "+1", "-1", "@sum", "plain, with comma", 'quote"d']
    events = [make_event(f"m-{number}", client_ref=text) for number, text in enumerate(texts)]
    await store_events(small_console.settings.database_url, events)
    async with small_console.visit() as person:
        answer = await person.get("/messages.csv")

    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="messages.csv"'
    assert {row["message_uuid"]: row["client_ref"] for row in rows} == {
        "m-0": "'=1+1",
        "m-1": "'+1",
        "m-2": "'-1",
        "m-3": "'@sum",
        "m-4": "plain, with comma",
        "m-5": 'quote"d',
    }


async def test_a_long_file_is_cut_and_says_so(small_console: ConsoleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has at most its limit of rows; the last line says that there are more."""
    monkeypatch.setattr(csv_stream, "MOST_ROWS", 7)
    monkeypatch.setattr(messages, "CSV_PAGE", 3)
    for number in (7, 8):
        events = [make_event(f"m-{place}") for place in range(number)]
        await store_events(small_console.settings.database_url, events)
        async with small_console.visit() as person:
            lines = (await person.get("/messages.csv")).text.splitlines()
        assert len(lines) == 8 + (number > 7)
        assert lines[-1].startswith('"Cut after') is (number > 7)


async def test_without_the_database_the_page_searches_redis_and_comes_back(
    tmp_path: Path, valkey_url: str, server: Redis, shard: Shard
) -> None:
    """The list says that the database is away; a message that waits in Redis is found nevertheless."""
    group = FailingGroup(server, shard)
    await group.start()
    await group.append(body(message_uuid="m-1"))
    url = f"sqlite:///{tmp_path / 'late.db'}"
    async with run_console(tmp_path, valkey_url, shard.name, database_url=url) as console, console.visit() as person:
        plain = await person.get("/messages")
        twin = await person.get("/api/v1/messages")
        waiting = await person.get("/messages?q=m-1")
        unknown = await person.get("/messages?q=m-2")
        await migrate_at(url)
        back = await person.get("/messages")

    assert (plain.status, twin.status, waiting.status, unknown.status, back.status) == (503, 503, 303, 200, 200)
    assert "The database does not answer" in plain.text
    assert "The database does not answer" in unknown.text
    assert 'hx-trigger="every 5s"' in unknown.text
    assert "No messages yet." in back.text
