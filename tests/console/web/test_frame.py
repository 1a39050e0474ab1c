import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from console.web import static_files
from console.web.access.roles import Role
from console.web.site import listener
from deploy import vendor
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.waiting import PATIENCE_SECONDS

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
WEIGHT_BYTES = 80 * 1024


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


@pytest.mark.parametrize("path", ["/", "/sign-in", "/no-such-page", "/static/x/console.css", "/api/v1/overview"])
async def test_each_answer_has_the_policy(console: ConsoleServer, path: str) -> None:
    """Pages, errors, files and JSON have the Content-Security-Policy."""
    async with console.visit() as person:
        answer = await person.get(path)

        assert answer.headers["Content-Security-Policy"] == CSP


async def test_no_page_has_inline_code(console: ConsoleServer) -> None:
    """A page has no inline script or style, no event attribute, and loads nothing from another host."""
    async with console.visit() as person:
        pages = [(await person.get(path)).text for path in ("/", "/sign-in", "/no-such-page")]

    for page in pages:
        assert not re.search(r"<script(?![^>]* src=)|<style| style=|\son[a-z]+=|javascript:", page)
        assert not re.search(r"""(src|action)="https?:|<link[^>]*"https?:""", page)


async def test_static_files_are_kept_for_ever(console: ConsoleServer) -> None:
    """The style sheet has a hash in its URL, is compressed, and is kept for a year; another hash is not found."""
    url = static_files.url_of("console.css")
    async with console.visit(None) as stranger:
        answer = await stranger.get(url)
        outdated = await stranger.get(re.sub(r"/static/\w+", "/static/0000", url))

    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
    assert outdated.status == 404


async def test_pages_are_not_kept(console: ConsoleServer) -> None:
    """A page may hold private data, so that no cache stores it."""
    async with console.visit() as person:
        assert (await person.get("/")).headers["Cache-Control"] == "no-store"


async def test_an_unknown_page_is_404_in_the_frame(console: ConsoleServer) -> None:
    """The page of an unknown address has the menu; the API answers JSON."""
    async with console.visit() as person:
        page = await person.get("/no-such-page")
        twin = await person.get("/api/v1/no-such-page")

    assert page.status == 404
    assert "The console has no such page." in page.text
    assert 'href="/dead-letters"' in page.text
    assert (twin.status, set(twin.json())) == (404, {"error"})


async def test_a_wrong_parameter_is_named(console: ConsoleServer) -> None:
    """A wrong value and an unknown parameter are answered 400 with the name of the field."""
    async with console.visit() as person:
        page = await person.get("/?span=2y")
        twin = await person.get("/api/v1/overview?colour=red")

    assert (page.status, ">span<" in page.text) == (400, True)
    assert (twin.status, list(twin.json()["fields"])) == (400, ["colour"])


async def test_the_theme_comes_from_a_cookie(console: ConsoleServer) -> None:
    """A person chooses dark and the device's zone, and each page says so; the default removes the cookie."""
    async with console.visit(Role.VIEWER) as person:
        saved = await person.post("/preferences", {"theme": "dark", "zone": "device", "back": "/?span=1h"})
        dark = await person.get("/")
        await person.post("/preferences", {"theme": "auto", "zone": "utc"})
        plain = await person.get("/")

    assert (saved.status, saved.headers["Location"]) == (303, "/?span=1h")
    assert '<html lang="en" data-theme="dark" data-zone="device">' in dark.text
    assert '<html lang="en">' in plain.text


@pytest.mark.parametrize("back", ["//evil.example", "/\\evil.example", "https://evil.example"])
async def test_preferences_return_to_the_console_only(console: ConsoleServer, back: str) -> None:
    """An address of another site is not followed."""
    async with console.visit(Role.VIEWER) as person:
        saved = await person.post("/preferences", {"theme": "dark", "back": back})

        assert saved.headers["Location"] == "/"


async def test_the_stream_sends_regions(console: ConsoleServer) -> None:
    """A tab gets the clock and the regions of its page at once, and later only what changed."""
    async with (
        console.visit(Role.VIEWER) as person,
        person.http.get(f"{console.url}/live?page=overview&span=15m") as stream,
    ):
        assert stream.headers["Content-Type"] == "text/event-stream"
        first = await stream.content.readuntil(b"\r\n\r\n")
        second = await stream.content.readuntil(b"\r\n\r\n")

    assert b'hx-target="[data-live=verdict]"' in first
    assert b'hx-target="#now"' in first
    assert b'hx-target="#count-dead"' not in second


async def test_streams_end_when_the_console_stops(
    tmp_path: Path, valkey_url: str, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop ends the open streams cleanly, without waiting until they are cut off."""
    monkeypatch.setattr(listener, "STOP_SECONDS", 600.0)
    async with (
        run_console(tmp_path, valkey_url, shard.name) as console,
        console.visit(Role.VIEWER) as person,
        person.http.get(f"{console.url}/live") as stream,
    ):
        await stream.content.readuntil(b"\r\n\r\n")
        console.stop.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            rest = await stream.content.read()

    assert rest.endswith(b"\r\n\r\n") or rest == b""


async def test_a_page_is_light(console: ConsoleServer) -> None:
    """Overview with all of its files is under 80 KiB, compressed."""
    async with console.visit() as person:
        page = await person.get("/", **{"Accept-Encoding": "identity"})
    names = [name for name, file in static_files.load_files().items() if file.url in page.text]

    assert len(names) >= 5
    assert sum(len(static_files.load_files()[name].compressed) for name in names) + len(page.text) / 4 < WEIGHT_BYTES


def test_vendored_files_are_those_of_the_manifest() -> None:
    """Each vendored file has the hash of the manifest, which names a package and version of deploy/vendor.py."""
    lines = [line.split() for line in vendor.MANIFEST.read_text().splitlines()[1:]]
    files = {path.name for path in vendor.FOLDER.iterdir()} - {"MANIFEST"}

    assert {name for name, *_ in lines} == files
    assert {(package, version) for _, package, version, _ in lines} == {
        (package.name, package.version) for package in vendor.PACKAGES
    }
    for name, _, _, digest in lines:
        assert hashlib.sha256((vendor.FOLDER / name).read_bytes()).hexdigest() == digest
