"""The console's port with slow and greedy clients, and with HEAD."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from console.web import render, routes
from console.web.live import LiveStreams
from console.web.metrics.gauges import REGISTRY
from console.web.site import listener
from stream.keys import Shard
from tests.support.http.console_server import SAME_ORIGIN, ConsoleServer, run_console
from tests.support.http.raw_http import open_socket

MOST = 20
SECONDS = 0.3
HOST = b"Host: 127.0.0.1\r\n"


@pytest.fixture
async def console(
    tmp_path: Path, valkey_url: str, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ConsoleServer]:
    """A console with short limits."""
    monkeypatch.setattr(listener, "MOST_CONNECTIONS", MOST)
    monkeypatch.setattr(listener, "CLIENT_SECONDS", SECONDS)
    monkeypatch.setattr(render, "BODY_SECONDS", SECONDS)
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


def count_closed(why: str) -> float:
    return REGISTRY.get_sample_value("ackstream_console_connections_closed_total", {"why": why}) or 0.0


async def talk(console: ConsoleServer, sent: bytes) -> bytes:
    """Send bytes, and return all that comes back until the console closes the connection."""
    with open_socket(console.settings.console_port) as client:
        reader, writer = await asyncio.open_connection(sock=client.dup())
        writer.write(sent)
        async with asyncio.timeout(60):
            try:
                return await reader.read()
            except ConnectionResetError:
                return b""
            finally:
                writer.close()


async def test_slow_and_large_requests_are_cut_off(console: ConsoleServer) -> None:
    """A head that is not complete in time, or that grows, gets no answer; a body that is late gets 408."""
    before = count_closed("head")

    assert await talk(console, b"GET / HTTP/1.1\r\n" + HOST) == b""
    large = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 4000) for number in range(50))
    assert b" 200 " not in await talk(console, b"GET /sign-in HTTP/1.1\r\n" + HOST + large)
    assert count_closed("head") == before + 2

    form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 99\r\nSec-Fetch-Site: same-origin\r\n"
    answer = await talk(console, b"POST /sign-in HTTP/1.1\r\n" + HOST + form + b"\r\nname=a")
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_reads_no_answer_is_cut_off(console: ConsoleServer) -> None:
    """Its requests wait in its own buffers, and then the connection is given up."""
    before, loop = count_closed("answer"), asyncio.get_running_loop()
    request = b"GET /sign-in HTTP/1.1\r\n" + HOST + b"\r\n"
    with open_socket(console.settings.console_port, buffer_bytes=2048) as client, suppress(ConnectionError):
        while True:
            await asyncio.wait_for(loop.sock_sendall(client, request * 100), 60)
    assert count_closed("answer") == before + 1


async def test_strangers_cannot_hold_all_connections(console: ConsoleServer) -> None:
    """New connections always get in, however fast they come; the oldest go, but not a stream of a signed-in person."""
    before = count_closed("room")
    writers = []
    async with console.visit() as person, person.http.get(f"{console.url}/live") as stream:
        await stream.content.readuntil(b"\r\n\r\n")
        for _ in range(5 * MOST):
            _, writer = await asyncio.open_connection("127.0.0.1", console.settings.console_port)
            writers.append(writer)
        await stream.content.readuntil(b"\r\n\r\n")
        async with console.visit(None) as stranger:
            assert (await stranger.get("/sign-in")).status == 200
    for writer in writers:
        writer.close()
    assert count_closed("room") >= before + MOST
    assert (REGISTRY.get_sample_value("ackstream_console_connections") or 0) <= MOST


async def test_head_answers_as_get_without_a_body(console: ConsoleServer) -> None:
    """Each page, API route and file has the status and the type of GET; a stream has no HEAD."""
    gets = [route for route in routes.collect(LiveStreams(routes.LIVE, asyncio.Event())) if route.method == "GET"]
    differences = {}
    async with console.visit() as person:
        for route in gets:
            url = console.url + re.sub(r"\{[^}]*\}", "x", route.path)
            if route.is_stream:
                async with person.http.head(url, headers=SAME_ORIGIN) as answer:
                    assert answer.status == 405
                continue
            async with (
                person.http.get(url, allow_redirects=False) as get,
                person.http.head(url, allow_redirects=False) as head,
            ):
                if (head.status, head.content_type, await head.read()) != (get.status, get.content_type, b""):
                    differences[route.path] = (head.status, get.status)
    assert differences == {}
