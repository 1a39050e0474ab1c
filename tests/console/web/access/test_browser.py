"""A real browser, over HTTP and under a name that is not localhost: there it sends no Sec-Fetch-Site."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from console.web.access.links import create_link
from stream.keys import Shard
from tests.support.http.browser import connect
from tests.support.http.console_server import run_console


@asynccontextmanager
async def run_forger(target: str) -> AsyncIterator[int]:
    """Serve a page whose form acts on the console; yields its port."""

    async def page(_request: web.Request) -> web.Response:
        form = f'<form method="post" action="{target}/preferences"><input name="theme" value="dark"><button>x</button>'
        return web.Response(text=form, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.one_process("tabs")
async def test_own_forms_count_over_http_and_foreign_ones_do_not(
    chromium: str, tmp_path: Path, valkey_url: str, shard: Shard
) -> None:
    """The console's forms sign in and out. The forms of another port of the same host, and of another site, get 403."""
    async with (
        run_console(tmp_path, valkey_url, shard.name, console_allowed_hosts="console.test") as console,
        connect(chromium) as browser,
    ):
        url = console.url.replace("127.0.0.1", "console.test")
        link = await create_link(console.settings.console_database, url)
        async with run_forger(url) as port:
            page = await browser.new_page()
            await page.goto(link)
            await page.click("button")
            await page.wait_for_url(f"{url}/")
            statuses = []
            for host in ("console.test", "evil.test"):
                await page.goto(f"http://{host}:{port}/")
                async with page.expect_response(f"{url}/preferences") as answer:
                    await page.click("button")
                statuses.append((await answer.value).status)
            await page.goto(url)
            signed_in = page.url
            forged_theme = await page.get_attribute("html", "data-theme")
            async with page.expect_response(f"{url}/sign-out") as answer:
                await page.eval_on_selector('[formaction="/sign-out"]', "button => button.form.requestSubmit(button)")
            status = (await answer.value).status

    assert statuses == [403, 403]
    assert (signed_in, forged_theme) == (f"{url}/", None)
    assert status == 303
