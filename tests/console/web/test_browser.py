from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stream.entry import Entry
from stream.keys import Shard
from stream.redis.client import client
from tests.support.http.browser import expect, open_tab
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.async_api import Page, ViewportSize

pytestmark = pytest.mark.one_process("tabs")

NARROW: "ViewportSize" = {"width": 360, "height": 800}


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


async def test_a_page_is_live_until_it_is_paused_or_hidden(chromium: str, console: ConsoleServer) -> None:
    """The clock moves, stops after Pause, and moves again after Resume; nothing is refused by the policy.

    A tab in the background gets no update; in the foreground it goes on by itself.
    """
    async with open_tab(chromium, console) as tab:
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

        await check_hidden(page)
        await check_focus(page)
        assert tab.faults == []


async def check_hidden(page: "Page") -> None:
    """Assert that the stream ends when the page is hidden, and starts again when it is shown."""
    clock, ended = page.locator("#now"), list[str]()
    for event in ("requestfailed", "requestfinished"):
        page.on(event, lambda request: ended.append(request.url))

    await hide(page, hidden=True)
    await until(lambda: has_stream(ended))
    hidden_at = await clock.inner_text()

    await hide(page, hidden=False)
    await expect(clock).not_to_have_text(hidden_at)


async def check_focus(page: "Page") -> None:
    """Assert that a person who has moved to a button by keyboard stays there while the numbers around it change."""
    button, clock = page.get_by_role("button", name="Hide this list"), page.locator("#now")
    await button.focus()

    for _ in range(2):
        await expect(clock).not_to_have_text(await clock.inner_text())

    await expect(button).to_be_focused()


async def test_the_first_webhook_changes_the_page_by_itself(chromium: str, console: ConsoleServer) -> None:
    """A page that waits for the first webhook shows charts as soon as an entry is on the stream, and nobody types.

    At 360 px it does not scroll sideways, and the menu opens and closes with the keyboard.
    """
    settings = console.settings
    async with open_tab(chromium, console) as tab, console.visit() as person:
        page = tab.page
        await page.wait_for_selector("text=Send the first one")
        search = page.get_by_label("Find a message")
        await search.fill("order-1")
        await append_webhook(settings.redis_url, settings.shard)
        await page.wait_for_selector("text=Average of the last 10 seconds")
        await expect(search).to_have_value("order-1")

        await page.keyboard.press("Tab")
        await page.wait_for_selector("#charts canvas")
        assert (await person.get("/api/v1/overview")).json()["flow"]["redis"]["entries"] == 1

        await page.set_viewport_size(NARROW)
        await tab.fits()
        await page.focus(".burger")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#nav a:visible")
        await page.keyboard.press("Escape")
        await page.wait_for_selector("#nav", state="hidden")
        assert tab.faults == []


async def test_pages_have_no_barriers(chromium: str, console: ConsoleServer) -> None:
    """Axe finds nothing moderate or worse on Overview, its first run, an error and the sign-in page.

    At any width, light or dark.
    """
    async with open_tab(chromium, console, color_scheme="light") as tab:
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


async def has_stream(urls: list[str]) -> bool:
    """Whether the stream is among the requests."""
    return any("/live?" in url for url in urls)


async def hide(page: "Page", *, hidden: bool) -> None:
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
