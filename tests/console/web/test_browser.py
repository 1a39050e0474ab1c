from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, ViewportSize, expect

from stream.entry import Entry
from stream.keys import Shard
from stream.redis.client import client
from tests.support.http.browser import open_tab
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.waiting import until

NARROW: ViewportSize = {"width": 360, "height": 800}


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


async def test_a_page_is_live_until_it_is_paused(console: ConsoleServer) -> None:
    """The clock moves, stops after Pause, and moves again after Resume; nothing is refused by the policy."""
    async with open_tab(console) as tab:
        page = tab.page
        state, clock, pause = page.locator("#state"), page.locator("#now"), page.locator("#pause")
        await expect(state).to_have_text("Live")
        await expect(clock).not_to_have_text(await clock.inner_text())

        await pause.click()
        await expect(state).to_have_text("Paused")
        await expect(pause).to_have_attribute("aria-pressed", "true")
        await expect(page.locator("#connection")).to_have_count(0)

        paused_at = await clock.inner_text()
        await pause.click()
        await expect(clock).not_to_have_text(paused_at)
        assert tab.faults == []


async def test_a_hidden_tab_has_no_stream(console: ConsoleServer) -> None:
    """A tab in the background gets no update; in the foreground it goes on by itself."""
    async with open_tab(console) as tab:
        page, clock = tab.page, tab.page.locator("#now")
        await expect(page.locator("#state")).to_have_text("Live")
        ended: list[str] = []
        for event in ("requestfailed", "requestfinished"):
            page.on(event, lambda request: ended.append(request.url))

        await hide(page, hidden=True)
        await until(lambda: has_stream(ended))
        hidden_at = await clock.inner_text()

        await hide(page, hidden=False)
        await expect(clock).not_to_have_text(hidden_at)
        assert tab.faults == []


async def test_updates_keep_the_focus(console: ConsoleServer) -> None:
    """A person who has moved to a button by keyboard stays there while the numbers around it change."""
    async with open_tab(console) as tab:
        button, clock = tab.page.get_by_role("button", name="Hide this list"), tab.page.locator("#now")
        await button.focus()

        for _ in range(2):
            await expect(clock).not_to_have_text(await clock.inner_text())

        await expect(button).to_be_focused()


async def test_the_first_webhook_changes_the_page_by_itself(console: ConsoleServer) -> None:
    """A page that waits for the first webhook shows charts as soon as an entry is on the stream."""
    settings = console.settings
    async with open_tab(console) as tab, console.visit() as person:
        await tab.page.wait_for_selector("text=Send the first one")
        await append_webhook(settings.redis_url, settings.shard)

        await tab.page.wait_for_selector("#charts canvas")
        assert (await person.get("/api/v1/overview")).json()["flow"]["redis"]["entries"] == 1
        assert tab.faults == []


async def test_pages_have_no_barriers(console: ConsoleServer) -> None:
    """Axe finds nothing moderate or worse on Overview, its first run, an error and the sign-in page.

    At any width, light or dark.
    """
    async with open_tab(console, color_scheme="light") as tab:
        barriers = await tab.find_barriers() + await tab.find_barriers_in_dark()
        await append_webhook(console.settings.redis_url, console.settings.shard)
        await tab.page.wait_for_selector("#charts canvas")
        barriers += await tab.find_barriers() + await tab.find_barriers_in_dark()
        await tab.page.set_viewport_size(NARROW)
        barriers += await tab.find_barriers() + await tab.find_barriers_in_dark()
        for path in ("/no-such-page", "/sign-in"):
            await tab.page.goto(path)
            barriers += await tab.find_barriers() + await tab.find_barriers_in_dark()

    assert barriers == []


async def test_nothing_is_wider_than_a_narrow_screen(console: ConsoleServer) -> None:
    """At 360 px no page scrolls sideways, and the menu opens and closes with the keyboard."""
    async with open_tab(console, viewport=NARROW) as tab:
        page = tab.page
        await append_webhook(console.settings.redis_url, console.settings.shard)
        await page.wait_for_selector("#charts canvas")
        assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]

        await page.focus(".burger")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#nav a:visible")
        await page.keyboard.press("Escape")
        await page.wait_for_selector("#nav", state="hidden")
        assert tab.faults == []


async def has_stream(urls: list[str]) -> bool:
    """Whether the stream is among the requests."""
    return any("/live?" in url for url in urls)


async def hide(page: Page, *, hidden: bool) -> None:
    """Let the page see itself in the background, or in the foreground."""
    await page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def append_webhook(redis_url: str, shard: Shard) -> None:
    """Append one entry to the stream, as ingest does."""
    server = client(redis_url)
    entry = Entry(b'{"message_uuid":"m-1","status":"delivered","channel":"sms"}', "application/json", 1, "r-1")
    fields: Any = entry.to_fields()
    await server.xadd(shard.stream, fields)
    await server.aclose()
