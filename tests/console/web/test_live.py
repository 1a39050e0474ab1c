import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from console.web import live
from console.web.access.roles import Role
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.servers.proxy import run_proxy, through
from tests.support.waiting import PATIENCE_SECONDS, until

EVENT_END = b"\r\n\r\n"


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


async def test_a_stream_ends_with_its_session(console: ConsoleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person signs out in one tab, and the stream of another tab ends; opened again it is refused."""
    monkeypatch.setattr(live, "CHECK_TICKS", 1)
    async with console.visit(Role.VIEWER) as person, person.http.get(f"{console.url}/live") as stream:
        await stream.content.readuntil(EVENT_END)
        await person.post("/sign-out")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await stream.content.read()

        again = await person.get("/live", **{"HX-Request": "true"})

    assert (again.status, again.headers["HX-Redirect"]) == (401, "/sign-in")


@pytest.mark.parametrize(("query", "status"), [("page=no-such", 404), ("page=overview&span=2y", 400), ("x=1", 400)])
async def test_a_wrong_stream_is_refused(console: ConsoleServer, query: str, status: int) -> None:
    """An unknown page is not found, and a wrong parameter is refused before the stream starts."""
    async with console.visit(Role.VIEWER) as person, person.http.get(f"{console.url}/live?{query}") as answer:
        assert answer.status == status


async def test_streams_are_limited(console: ConsoleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One stream more than the limit is answered 503, and one that ends makes room."""
    monkeypatch.setattr(live, "MAX_STREAMS", 1)
    async with console.visit(Role.VIEWER) as person:
        async with person.http.get(f"{console.url}/live") as stream:
            await stream.content.readuntil(EVENT_END)
            async with person.http.get(f"{console.url}/live") as second:
                assert second.status == 503

        async def has_room() -> bool:
            async with person.http.get(f"{console.url}/live") as stream:
                return stream.status == 200

        await until(has_room)


async def test_a_live_page_says_that_redis_is_away(tmp_path: Path, valkey_url: str, shard: Shard) -> None:
    """While Redis does not answer, a page that is open gets a note and keeps its numbers; then the note goes."""
    async with (
        run_proxy(urlsplit(valkey_url).port or 0) as proxy,
        run_console(tmp_path, through(proxy, valkey_url), shard.name) as console,
        console.visit(Role.VIEWER) as person,
        person.http.get(f"{console.url}/live?page=groups") as stream,
    ):
        await stream.content.readuntil(EVENT_END)
        proxy.refuses = True
        proxy.cut()
        away = await read_until(stream.content, b"Redis does not answer")
        page = await person.get("/groups")
        twin = await person.get("/api/v1/groups")
        proxy.refuses = False
        back = await read_until(stream.content, b'<hx-partial hx-target="#away" hx-swap="innerMorph"></hx-partial>')

    assert b'hx-target="#away"' in away
    assert (page.status, "Redis does not answer. Webhooks are kept in the spool." in page.text) == (503, True)
    assert (twin.status, twin.json()["error"]) == (503, "Redis does not answer")
    assert b"Redis does not answer" not in back


async def read_until(content: aiohttp.StreamReader, part: bytes) -> bytes:
    """Return the first event with this part."""
    async with asyncio.timeout(60):
        while True:
            event = await content.readuntil(EVENT_END)
            assert event, "the stream has ended"
            if part in event:
                return event
