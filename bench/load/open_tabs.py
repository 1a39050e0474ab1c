"""Open tabs of the web console: the live streams of its Overview, read as fast as they come.

``python -m bench.load.open_tabs URL LINK TABS`` signs in by the link and prints a line when each tab has its first
update. When its standard input ends it prints the number of updates of each tab. A stream that ends is an error.
"""

import asyncio
import html
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import orjson

from bench.rig.processes import environment, run_process

UPDATE_END = b"\r\n\r\n"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


async def run(url: str, link: str, tabs: int) -> list[int]:
    """Keep the tabs open until standard input ends; return their numbers of updates."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    updates = [0] * tabs
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.CookieJar(unsafe=True)
    ) as http:
        form = {"link": parse_qs(urlsplit(link).query)["link"][0]}
        async with http.post(f"{url}/sign-in", data=form, headers=SAME_ORIGIN) as answer:
            page = await answer.text()
        match = re.search(r'"(/live\?[^"]*)"', page)
        assert match, "the page has no live stream"
        stream = f"{url}{html.unescape(match[1])}"
        async with asyncio.TaskGroup() as readers:
            firsts = [asyncio.Event() for _ in range(tabs)]
            tasks = [readers.create_task(_read(http, stream, updates, tab, firsts[tab])) for tab in range(tabs)]
            for first in firsts:
                await first.wait()
            print("begun", flush=True)
            await ended.wait()
            assert not any(task.done() for task in tasks), "a stream has ended"
            for task in tasks:
                task.cancel()
    return updates


async def _read(http: aiohttp.ClientSession, stream: str, updates: list[int], tab: int, first: asyncio.Event) -> None:
    async with http.get(stream) as answer:
        answer.raise_for_status()
        while True:
            await answer.content.readuntil(UPDATE_END)
            updates[tab] += 1
            first.set()


class Tabs:
    """Open tabs, in a process of their own."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        self._child = child

    def close(self) -> list[int]:
        """Close them, and return their numbers of updates."""
        out, _ = self._child.communicate(timeout=30)
        assert self._child.returncode == 0, "the tabs failed"
        updates: list[int] = orjson.loads(out)
        return updates


@contextmanager
def open_tabs(url: str, link: str, tabs: int, core: int, folder: Path) -> Iterator[Tabs]:
    """Open tabs for the length of the block."""
    command = sys.executable, "-m", "bench.load.open_tabs", url, link, str(tabs)
    with run_process(*command, core=core, folder=folder, environment=environment(), talks=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        yield Tabs(child)


def main() -> None:
    """Open the tabs of the command line."""
    url, link, tabs = sys.argv[1:]
    print(orjson.dumps(asyncio.run(run(url, link, int(tabs)))).decode())


if __name__ == "__main__":
    main()
