"""Chromium, driven by Playwright: pages of a running console that report their own faults.

Each process of the tests imports this module. The import of Playwright takes 0.4 s, so only tests that use it do that.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
import pytest

from console.web.access.links import create_link
from console.web.access.roles import Role
from tests.support.http.console_server import ConsoleServer
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page

WAIT_MS = 60_000
CONTEXT: dict[str, Any] = {"viewport": {"width": 1440, "height": 1000}, "reduced_motion": "reduce"}
"""Options of Playwright's new_context. Without a graphics card, each step of an animation takes the processor."""
CHROMIUM = shutil.which("chromium")
DISABLED_FEATURES = (
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup"),
    # Chromium takes the last of several lists, so these are the ones of Playwright's that its pages or start depend on.
    *("HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "PaintHolding", "AvoidUnnecessaryBeforeUnloadCheckSync"),
    *("DestroyProfileOnBrowserClose", "LensOverlay", "MediaRouter", "ThirdPartyStoragePartitioning"),
    *("OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch"),
)
"""Of Chromium. Each window would load two pages for its address bar: nearly a second of the processor for each test."""
FLAGS = [
    "--no-sandbox",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
    f"--disable-features={','.join(DISABLED_FEATURES)}",
]
COLOUR_RULES = ["color-contrast", "link-in-text-block"]
"""The rules of axe that look at colours."""
AXE_OPTIONS = {"resultTypes": ["violations"], "iframes": False, "selectors": False}
SEVERE = ["moderate", "serious", "critical"]
FIND_BARRIERS = """async ([options, severe]) => (await axe.run(options)).violations
    .filter((violation) => severe.includes(violation.impact))
    .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 120)}`))"""


@cache
def load_playwright() -> Any:
    """Return the library, whose assertions wait for as long as a busy machine needs."""
    library = importlib.import_module("playwright.async_api")
    library.expect.set_options(timeout=WAIT_MS)
    return library


def expect(actual: Any) -> Any:
    """Return Playwright's assertions about a page or a part of it."""
    return load_playwright().expect(actual)


@dataclass(slots=True)
class Tab:
    """A page of the browser, and everything that went wrong in it."""

    page: "Page"
    faults: list[str] = field(default_factory=list)
    """Errors of scripts and of the policy, requests to other hosts."""

    async def find_barriers(self) -> list[str]:
        """Return what axe finds that is moderate or worse."""
        return await self._run_axe()

    async def find_barriers_but_colours(self) -> list[str]:
        """Return what axe finds in another width, which changes no colours."""
        return await self._run_axe(rules={rule: {"enabled": False} for rule in COLOUR_RULES})

    async def find_barriers_in_dark(self) -> list[str]:
        """Return what axe finds in the dark scheme, which changes nothing but colours."""
        await self.page.emulate_media(color_scheme="dark")
        barriers = await self._run_axe(runOnly=COLOUR_RULES)
        await self.page.emulate_media(color_scheme="light")
        return barriers

    async def fits(self) -> None:
        """Wait until the page has been drawn for the size of the window, and does not scroll sideways."""

        async def is_narrow_enough() -> bool:
            return bool(await self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))

        await until(is_narrow_enough)

    async def _run_axe(self, **options: Any) -> list[str]:
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(importlib.import_module("axe_playwright_python.base").AXE_SCRIPT)
        barriers: list[str] = await self.page.evaluate(FIND_BARRIERS, [{**AXE_OPTIONS, **options}, SEVERE])
        return barriers


@contextmanager
def run_chromium(folder: Path, compiled: Path) -> Iterator[str]:
    """Run Chromium for all tests of a process, which saves two seconds of the processor for each. Yields its URL.

    Each connection starts Node with Playwright's code. It is compiled once for all processes, into the other folder.
    """
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    os.environ["NODE_COMPILE_CACHE"] = str(compiled)
    config = folder / "config.json"
    config.write_text(json.dumps({"executablePath": CHROMIUM, "args": FLAGS}))
    command = (sys.executable, "-m", "playwright", "launch-server", "--browser", "chromium", "--config", str(config))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        for driver in psutil.Process(process.pid).children():
            driver.terminate()  # it ends Chromium, and then the process ends


@asynccontextmanager
async def connect(chromium: str) -> AsyncIterator["Browser"]:
    """Connect to the browser of this URL. At the end it forgets all of this test."""
    async with load_playwright().async_playwright() as playwright:
        browser = await playwright.chromium.connect(chromium)
        yield browser
        await browser.close()


@asynccontextmanager
async def open_tab(
    chromium: str, console: ConsoleServer, role: Role | None = Role.OPERATOR, **options: Any
) -> AsyncIterator[Tab]:
    """Open a tab of Chromium with this role; ``options`` are those of Playwright's new_context."""
    link = None if role is None else await create_link(console.settings.console_database, console.url, role)
    async with open_signed_in(chromium, console.url, link, **options) as tab:
        yield tab


@asynccontextmanager
async def open_signed_in(chromium: str, url: str, link: str | None, **options: Any) -> AsyncIterator[Tab]:
    """Open a tab on the console at this URL, signed in by the link, with options of Playwright."""
    async with connect(chromium) as browser:
        context = await browser.new_context(**{"base_url": url, **CONTEXT, **options})
        context.set_default_timeout(WAIT_MS)
        tab = Tab(await context.new_page())
        _watch(context, tab, url)
        if link is not None:
            await tab.page.goto(link)
            await tab.page.click("button.main")
            await tab.page.wait_for_url(f"{url}/")
        yield tab


def _watch(context: "BrowserContext", tab: Tab, url: str) -> None:
    host = urlsplit(url).netloc
    tab.page.on("pageerror", lambda error: tab.faults.append(str(error)))
    tab.page.on("console", lambda line: tab.faults.append(line.text) if line.type in ("error", "warning") else None)
    context.on(
        "request",
        lambda request: tab.faults.append(request.url) if urlsplit(request.url).netloc != host else None,
    )


async def name_focused(page: "Page") -> str:
    """Return the name of the control that has the focus: its label or its text."""
    return str(
        await page.evaluate(
            """() => {
                const focused = document.activeElement;
                const label = focused.labels?.length ? focused.labels[0].textContent : "";
                return (focused.getAttribute("aria-label") || label || focused.textContent).trim();
            }"""
        )
    )
