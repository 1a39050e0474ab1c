"""A person in a real browser: signs in, sees traffic, finds a message, repairs what failed, signs out."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.handlers import recorder
from tests.support.http.browser import WAIT_MS, Tab, expect, name_focused, open_signed_in
from tests.support.processes import Process, becomes
from tests.support.samples.events import body
from tests.support.samples.signed import SECRETS, bearer
from tests.support.waiting import until
from tests.support.workers.up_folder import UpFolder

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

pytestmark = pytest.mark.one_process("browser")

NUMBER = "447700900123"
REFERENCE = "order-4711"
MOST_TABS = 80
TOUCH: dict[str, Any] = {"viewport": {"width": 360, "height": 800}, "has_touch": True, "is_mobile": True}
PAGES = (
    "/",
    "/statuses",
    "/messages",
    "/messages/m-1",
    "/dead-letters",
    "/invalid",
    "/quarantine",
    "/replays",
    "/groups",
    "/groups/orders",
    "/settings",
    "/checks",
    "/audit",
)


@dataclass(frozen=True, slots=True)
class BrowsedConsole:
    """A running `ackstream up` with required signatures, whose handler fails until there is a file."""

    folder: UpFolder
    process: Process
    chromium: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.folder.console_port}"

    async def send(self, payload: bytes, *, secret: str | None = None) -> int:
        """Send a signed webhook; return the status of the answer."""
        signature = bearer(payload) if secret is None else bearer(payload, secret=secret)
        headers = {"Content-Type": "application/json", "Authorization": signature}
        async with aiohttp.ClientSession() as http, http.post(self.folder.url, data=payload, headers=headers) as answer:
            return answer.status

    @asynccontextmanager
    async def open(self, *, uses_keyboard: bool = False, **options: Any) -> AsyncIterator[Tab]:
        """Open a tab that is signed in by a new link. The test fails if its pages had a fault."""
        link = await asyncio.to_thread(self.folder.ask, "console", "link")
        signed_in_by = None if uses_keyboard else link["url"]
        async with open_signed_in(self.chromium, self.url, signed_in_by, **options) as tab:
            if uses_keyboard:
                await tab.page.goto(link["url"])
                await press_until(tab.page, "Sign in")
                await tab.page.keyboard.press("Enter")
                # Until the console has seen the first webhook, the page has no such choice; then it loads itself again.
                await expect(tab.page.get_by_role("navigation", name="Time span")).to_be_visible()
            yield tab
        assert tab.faults == []

    @property
    def repaired(self) -> Path:
        """The file with which the handler succeeds."""
        return self.folder.folder / "back"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[BrowsedConsole]:
    folder = UpFolder(tmp_path_factory.mktemp("browser"))
    settings = {
        "signatures": "required",
        "signature_secrets": SECRETS,
        "handlers": "store,orders=orders:handle#attempts=1",
    }
    shutil.copy(recorder.__file__, folder.folder / "orders.py")
    with folder.up(**settings) as process:
        yield BrowsedConsole(folder, process, chromium)


async def prepare(place: BrowsedConsole, number: int = 0) -> None:
    """Wait for all processes, then send statuses: one message of a number, one that fails, one with a wrong secret."""
    up = place.process
    await up.is_ready(place.folder.admin_port)
    await becomes(lambda: len(up.read_log("consumer.ready")) == 2 and up.read_log("console.started"))
    for other in range(20):
        assert await place.send(body(message_uuid=f"other-{other}", client_ref=f"order-{other}")) == 200
    assert await place.send(body(message_uuid="m-1", to=NUMBER, client_ref=REFERENCE)) == 200
    assert await place.send(body(message_uuid=f"down-{number}", to="447700900042", client_ref="order-9")) == 200
    assert await place.send(body(message_uuid=f"wrong-{number}"), secret="the secret of somebody else") == 503


@pytest.mark.parametrize(("number", "options"), [(1, {}), (2, TOUCH)], ids=["mouse", "touch"])
async def test_a_person_finds_and_repairs(place: BrowsedConsole, number: int, options: dict[str, Any]) -> None:
    """With a mouse, and by touch on 360 px: live numbers, a message, a dead letter, a replay, the quarantine."""
    place.repaired.unlink(missing_ok=True)
    await prepare(place, number)
    async with place.open(**options) as tab:
        page = tab.page
        await expect(page.locator("#state")).to_contain_text("Live")
        await send_until_dead(place)
        await expect(page.locator("#count-dead")).to_have_text("1")

        for text in (REFERENCE, f"+{NUMBER}"):
            await page.goto("/")
            await find_message(page, text)
        await expect(page.get_by_role("region", name="Timeline")).to_contain_text("Received, signature correct")
        await expect(page.locator("main")).not_to_contain_text(NUMBER)

        await repair_dead_letter(place, page, f"down-{number}")
        await replay_slowly(page)
        await accept_quarantined(page, f"wrong-{number}")
        await press(page.get_by_role("button", name="Your account"))
        await press(page.get_by_role("button", name="Sign out"))
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def is_narrow(page: "Page") -> bool:
    """Whether the page has the width of a phone, where a person uses touch."""
    return page.viewport_size is not None and page.viewport_size["width"] == TOUCH["viewport"]["width"]


async def press(target: "Locator") -> None:
    """Click, or tap on a phone."""
    await (target.tap() if is_narrow(target.page) else target.click())


async def go_to(page: "Page", name: str) -> None:
    """Open a page of the menu."""
    if is_narrow(page):
        await press(page.get_by_role("button", name="Menu"))
    await press(page.get_by_role("navigation", name="Pages").get_by_role("link", name=name))
    await expect(page.get_by_role("heading", name=name, exact=True, level=1)).to_be_visible()


async def find_message(page: "Page", text: str) -> None:
    """Search for a text that only the message m-1 has: its page opens."""
    await page.get_by_label("Find a message").fill(text)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/messages/m-1")
    await expect(page.get_by_role("heading", name="Message m-1")).to_be_visible()


async def repair_dead_letter(place: BrowsedConsole, page: "Page", name: str) -> None:
    """Read the error's message, repair the handler, and replay the dead letter until the group has handled it."""
    await go_to(page, "Dead letters")
    await press(page.get_by_role("link", name=name))
    await confirm(page, "Reveal…", "Show it")
    await expect(page.locator("main")).to_contain_text("447700900042")
    place.repaired.touch()
    await go_to(page, "Dead letters")
    await press(page.get_by_role("link", name=name))
    await confirm(page, "Replay…", "Replay 1")
    await expect(page.locator("#count-dead")).to_have_text("", timeout=WAIT_MS)
    await page.goto(f"/messages/{name}")
    await expect(page.get_by_role("region", name="Timeline")).to_contain_text("Handled by orders")


async def test_the_keyboard_is_enough(place: BrowsedConsole) -> None:
    """With Tab, Enter, arrows and Escape a person finds a message, plans and cancels a replay, and signs out."""
    await prepare(place)
    async with place.open(uses_keyboard=True) as tab:
        page = tab.page
        await press_until(page, "Find a message")
        await page.keyboard.type(REFERENCE)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Message m-1")).to_be_visible()

        await press_until(page, "Replays")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Plan a replay")).to_be_visible()
        await press_until(page, "To group")
        await page.keyboard.type("orders")
        await press_until(page, "At most, per second")
        await page.keyboard.press("Control+A")
        await page.keyboard.type("1")
        await press_until(page, "Count")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Start: ")).to_be_visible()
        await press_until(page, "Why")
        await page.keyboard.type("a new handler")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Cancel…")).to_be_visible()
        await press_until(page, "Cancel…")
        await page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        assert await name_focused(page) == "Cancel…"
        await page.keyboard.press("Enter")
        await press_until(page, "Why")
        await page.keyboard.type("it was a try")
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_contain_text("Cancelled: replay")

        await press_until(page, "Your account")
        await page.keyboard.press("Enter")
        await press_until(page, "Sign out")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def press_until(page: "Page", name: str) -> None:
    """Press Tab until the control with this name has the focus."""
    for _ in range(MOST_TABS):
        await page.keyboard.press("Tab")
        if (await name_focused(page)).startswith(name):
            return
    raise AssertionError(f"Tab does not reach {name!r} on {page.url}")


async def send_until_dead(place: BrowsedConsole) -> None:
    """Send further statuses until the failing one is a dead letter: a success after its attempt decides that."""

    async def is_dead() -> bool:
        await place.send(body(message_uuid=f"later-{secrets.token_hex(4)}"))
        stats: Any = await asyncio.to_thread(place.folder.ask, "stats")
        return bool(stats["groups"]["orders"]["dead"])

    await until(is_dead)


async def confirm(page: "Page", opener: str, button: str) -> None:
    """Open a dialog, give a reason, and confirm."""
    await press(page.get_by_role("button", name=opener, exact=True))
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Why").fill("the handler is repaired")
    await press(dialog.get_by_role("button", name=button, exact=True))
    await expect(dialog).to_be_hidden()


async def replay_slowly(page: "Page") -> None:
    """Start a replay of everything, slow it down, and cancel it."""
    await go_to(page, "Replays")
    await page.get_by_label("To group").select_option("orders")
    await page.get_by_label("At most, per second").fill("2")
    await press(page.get_by_role("button", name="Count", exact=True))
    await page.get_by_label("Why").fill("a new handler")
    await press(page.get_by_role("button", name="Start: "))
    rate = page.get_by_label("At most", exact=True)
    await rate.fill("1")
    await rate.press("Enter")
    await expect(page.get_by_label("At most", exact=True)).to_have_value("1")
    await confirm(page, "Cancel…", "Cancel the replay")
    await expect(page.locator("main")).to_contain_text("Cancelled: replay")
    await expect(page.locator("main")).to_contain_text("Cancelled by", timeout=WAIT_MS)


async def accept_quarantined(page: "Page", name: str) -> None:
    """Accept the webhook with the wrong signature, although it cannot be verified; then its message exists."""
    await go_to(page, "Quarantine")
    await press(page.get_by_role("table").get_by_role("link", name="0/").first)
    await confirm(page, "Accept as not verified…", "Accept 1 unverified")
    await expect(page.locator("#count-quarantine")).to_have_text("", timeout=WAIT_MS)
    await page.goto(f"/messages/{name}")
    await expect(page.get_by_role("heading", name=f"Message {name}")).to_be_visible()


async def test_every_page_is_accessible(place: BrowsedConsole) -> None:
    """Axe finds nothing moderate or serious on any page, light, dark or narrow; no page scrolls sideways.

    It looks at colours once for each scheme, as they do not depend on the width.
    """
    await prepare(place)
    async with place.open(color_scheme="light") as tab:
        barriers: dict[str, list[str]] = {path: [] for path in PAGES}
        for path in PAGES:
            await tab.page.goto(path)
            await tab.page.set_viewport_size({"width": 360, "height": 900})
            await tab.fits()
            barriers[path] += await tab.find_barriers_but_colours()
            await tab.page.set_viewport_size({"width": 1440, "height": 900})
            await tab.fits()
            barriers[path] += await tab.find_barriers() + await tab.find_barriers_in_dark()
    assert {path: findings for path, findings in barriers.items() if findings} == {}
