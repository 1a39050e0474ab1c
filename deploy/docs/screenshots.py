"""``make screenshots``: pictures of each page of the web console, into docs/images/console/.

Each page has two: ``light`` and wide, and ``narrow`` and dark as on a phone at night. They are WebP, which is small;
README's two of Overview are PNG, which every place that shows a README takes.

Runs ``ackstream demo`` with a fixed seed under a clock that starts at a fixed time and runs four times as fast, so
that the charts of 15 minutes are full after four minutes. Needs Linux, a C compiler and Chromium.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, ViewportSize, async_playwright

from console.up.valkey import find_free_port
from deploy.docs.running import await_condition
from runtime import run_file
from tests.support.preload.shim import Shim, build_shim

FOLDER = Path(__file__).parents[2] / "docs" / "images" / "console"
CHROMIUM = "/usr/bin/chromium"
START = datetime(2026, 11, 28, 14, 17, tzinfo=UTC)
SHOWN_SECONDS = 15 * 60
SPEED = 4
SEED = 7
SIZE: ViewportSize = {"width": 1280, "height": 1000}
NARROW: ViewportSize = {"width": 360, "height": 800}
LOOKS = ("light", "narrow")
QUALITY = 60
LOAD_MS = 2500
STOP_SECONDS = 30.0
PAGES = {
    "overview": "/",
    "statuses": "/statuses",
    "messages": "/messages",
    "dead-letters": "/dead-letters",
    "invalid": "/invalid",
    "quarantine": "/quarantine",
    "replays": "/replays",
    "groups": "/groups",
    "settings": "/settings",
    "audit": "/audit",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a page in one look."""

    name: str
    path: str
    look: str

    @property
    def file(self) -> Path:
        """The file of the picture."""
        return FOLDER / f"{self.name}-{self.look}.webp"


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo and its clock."""

    data: Path
    shim: Shim
    environment: dict[str, str]

    def hurry(self) -> None:
        """Let the time of the charts pass, faster than on other clocks."""
        started = time.monotonic()
        offset = int(START.timestamp() - time.time())
        while (seconds := time.monotonic() - started) < SHOWN_SECONDS / SPEED:
            self.shim.set(clock_seconds=offset + int(seconds * (SPEED - 1)))
            time.sleep(0.1)

    def make_link(self) -> str:
        """Return a sign-in link."""
        command = (sys.executable, "-m", "console", "console", "link", "--data", str(self.data), "--json")
        answer = subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True)
        return str(json.loads(answer.stdout)["url"])


@contextmanager
def run_demo(folder: Path) -> Iterator[Demo]:
    """Run the demo in this folder. Raises SystemExit without a C compiler."""
    library = build_shim(folder)
    if library is None:
        sys.exit("screenshots: a C compiler for Linux is needed")
    shim, data = Shim(library, folder / "orders"), folder / "ackstream-demo"
    shim.set(clock_seconds=int(START.timestamp() - time.time()))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACKSTREAM_")}
    environment |= shim.environment
    ports = [text for name in ("--port", "--admin-port", "--console-port") for text in (name, str(find_free_port()))]
    command = (sys.executable, "-m", "console", "demo", "--data", str(data), "--seed", str(SEED), *ports)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_condition(lambda: (data / "console" / "console.db").exists() and run_file.find_running(data) is not None)
        yield Demo(data, shim, environment)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


async def take_pictures(link: str) -> None:
    """Sign in, and write the pictures of all pages."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context(viewport=SIZE)
        page = await context.new_page()
        await page.goto(link)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("heading", name="Overview").wait_for()
        state = Path(tempfile.mkdtemp()) / "state.json"
        await context.storage_state(path=state)
        message = await find_message(browser, state, link)
        for name, path in {**PAGES, "message": message}.items():
            looks = (*LOOKS, "dark") if name == "overview" else LOOKS
            pictures = [Picture(name, path, look) for look in looks]
            await asyncio.gather(*(take(browser, state, link, picture) for picture in pictures))
        await browser.close()


async def take(browser: Browser, state: Path, link: str, picture: Picture) -> None:
    """Write one picture."""
    scheme: Literal["light", "dark"] = "light" if picture.look == "light" else "dark"
    size = NARROW if picture.look == "narrow" else SIZE
    context = await browser.new_context(viewport=size, storage_state=state, color_scheme=scheme)
    page = await context.new_page()
    await page.goto(link.partition("/sign-in")[0] + picture.path, wait_until="load")
    await page.wait_for_timeout(LOAD_MS)
    if picture.name == "overview" and picture.look != "narrow":
        await page.screenshot(path=picture.file.with_suffix(".png"))
    else:
        session = await context.new_cdp_session(page)  # Playwright itself writes no WebP
        answer = await session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
        picture.file.write_bytes(b64decode(answer["data"]))
    await context.close()


async def find_message(browser: Browser, state: Path, link: str) -> str:
    """Return the path of the newest message that was read."""
    context = await browser.new_context(storage_state=state)
    answer = await context.request.get(link.partition("/sign-in")[0] + "/api/v1/messages?status=read")
    messages = (await answer.json())["messages"]
    await context.close()
    return f"/messages/{messages[0]['message_uuid']}"


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ackstream-screenshots-") as name, run_demo(Path(name)) as demo:
        demo.hurry()
        asyncio.run(take_pictures(demo.make_link()))


if __name__ == "__main__":
    main()
