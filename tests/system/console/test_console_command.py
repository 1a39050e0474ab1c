"""`ackstream console` as a process of its own."""

import asyncio
import re
import subprocess
from pathlib import Path

import aiohttp

from stream.keys import Shard
from tests.support.processes import ackstream, becomes, run_ackstream

LINK = re.compile(r"(http://127\.0\.0\.1:\d+)/sign-in\?link=(\S+)")


async def enter(url: str, secret: str) -> int:
    """Use a sign-in link, then open the Overview with the session; return its status."""
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True), headers=headers) as http:
        async with http.post("/sign-in", data={"link": secret}, allow_redirects=False):
            pass
        async with http.get("/", allow_redirects=False) as page:
            return page.status


async def test_a_console_without_users_prints_a_link_that_works_once(
    tmp_path: Path, valkey_url: str, shard: Shard
) -> None:
    """The link signs in one browser; the second one is sent to the sign-in page."""
    settings = {"redis_url": valkey_url, "stream": shard.name}
    with ackstream("console", "--port", "0", "--admin-port", "0", folder=tmp_path, **settings) as console:
        await becomes(lambda: LINK.search(console.said))
        match = LINK.search(console.said)
        assert match is not None
        url, secret = match.groups()

        assert await enter(url, secret) == 200
        assert await enter(url, secret) == 303


async def test_a_console_with_users_prints_no_link(tmp_path: Path, valkey_url: str, shard: Shard) -> None:
    """After `console user add` the console starts without a link."""
    settings = {"redis_url": valkey_url, "stream": shard.name}
    added: subprocess.CompletedProcess[str] = run_ackstream(
        "console", "user", "add", "ann", "--role", "viewer", "--no-password", folder=tmp_path, **settings
    )
    assert added.returncode == 0, added.stderr
    with ackstream("console", "--port", "0", "--admin-port", "0", folder=tmp_path, **settings) as console:
        await becomes(lambda: "console.started" in console.said)
    assert LINK.search(console.said) is None


async def test_a_second_console_on_a_data_folder_is_refused(tmp_path: Path, valkey_url: str, shard: Shard) -> None:
    """Two consoles would write the same history; the second one ends with the next step."""
    settings = {"redis_url": valkey_url, "stream": shard.name}
    with ackstream("console", "--port", "0", "--admin-port", "0", folder=tmp_path, **settings) as console:
        await becomes(lambda: "console.started" in console.said)
        second = await asyncio.to_thread(
            run_ackstream, "console", "--port", "0", "--admin-port", "0", folder=tmp_path, **settings
        )

    assert second.returncode == 1
    assert "another console runs" in second.stderr
