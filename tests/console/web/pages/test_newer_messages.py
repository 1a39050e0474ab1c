"""The number of newer messages on an open page of the list."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from console.queries.statuses import search
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, Visitor, run_console
from tests.support.samples.events import RECEIVED_MS, body, event
from tests.support.streams.stored_messages import store_events


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


async def read_live(person: Visitor, query: str, last: str) -> str:
    """Return the live stream of a page up to a text, or its start without the text."""
    text = ""
    async with person.http.get(f"{person.url}/live?page=messages&{query}") as stream:
        async for line in stream.content:
            text += line.decode()
            if last in text or len(text) > 20_000:
                break
    return text


async def test_new_messages_wait_for_a_click(console: ConsoleServer) -> None:
    """The live stream counts the messages that came after the page."""
    url = console.settings.database_url
    await store_events(url, [event(body(message_uuid="m-1", timestamp="2025-11-24T12:00:00Z"), RECEIVED_MS)])
    async with console.visit() as person:
        newest = (await person.get("/api/v1/messages?channel=sms")).json()["newest"]
        later = body(message_uuid="m-2", timestamp="2025-11-24T12:00:05Z")
        await store_events(url, [event(later, RECEIVED_MS, "0/2-0")])
        text = await read_live(person, f"channel=sms&newest={quote(newest)}", "Show 1 new")
        page = (await person.get("/messages?channel=sms&status=")).text

    assert "Show 1 new" in text
    assert "page=messages" in page
    assert "newest=" in page
    assert "status=&" not in page


async def test_new_messages_can_be_looked_for_after_a_count_that_found_none(
    console: ConsoleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count looked at some hours only, and their messages have another status now; the person opens the list."""
    monkeypatch.setattr(search, "MOST_HOURS", 1)
    times = [f"2025-11-24T{hour}:00:00Z" for hour in ("12", "14", "16")]
    delivered = [body(message_uuid=f"m-{time}", timestamp=time) for time in times]
    read = body(message_uuid=f"m-{times[-1]}", timestamp="2025-11-24T16:05:00Z", status="read")
    events = [event(payload, RECEIVED_MS, f"0/{place}-1") for place, payload in enumerate([*delivered, read])]
    async with console.visit() as person:
        await store_events(console.settings.database_url, events[:1])
        newest = (await person.get("/api/v1/messages?status=delivered")).json()["newest"]
        await store_events(console.settings.database_url, events[1:])
        text = await read_live(person, f"status=delivered&newest={quote(newest)}", "Look for newer ones")

    assert "Look for newer ones" in text
    assert " new</a>" not in text
