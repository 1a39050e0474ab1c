"""The examples of `deploy/proxies`, as written, before a real ingest and a real console."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
import pytest

from console.web.access.links import create_link
from console.web.access.roles import Role
from stream.keys import Shard
from tests.support.deployment.reverse_proxies import CLIENT_ADDRESS, CONSOLE, WEBHOOKS, Caddy, Nginx, ReverseProxy
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.http.load import make_delivered
from tests.support.http.raw_http import Edge
from tests.support.processes import becomes
from tests.support.samples.signed import SECRETS, bearer, sign_query

SIGNED = {"signatures": "required", "signature_secrets": SECRETS, "dlr_signature": "sha256"}
EVENT_END = b"\r\n\r\n"
LARGEST = 131072
PATH = "/webhooks/message-status"
SENDERS = 4
SPOOFED = "203.0.113.9"

anywhere = pytest.mark.parametrize("kind", [Nginx, Caddy])


@pytest.fixture
async def ingest(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[Edge]:
    async with Edge(tmp_path, valkey_url, shard, **SIGNED).run() as edge:
        yield edge


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    behind = {"console_allowed_hosts": CONSOLE, "console_proxies": "127.0.0.1"}
    async with run_console(tmp_path, valkey_url, shard.name, **behind) as running:
        yield running


def upstream_connections(ingest: Edge) -> set[int]:
    """Return the client ports of the open connections of ingest."""
    open_connections = psutil.Process(ingest.process.child.pid).net_connections("tcp")
    return {one.raddr.port for one in open_connections if one.raddr and one.laddr.port == ingest.port}


@anywhere
async def test_webhooks_pass_unchanged(kind: type[ReverseProxy], ingest: Edge, tmp_path: Path) -> None:
    """Bodies and queries arrive byte by byte, on connections that stay open; the refusals are those of ingest."""
    largest = b'{"padding":"' + b"x" * (LARGEST - 14) + b'"}'
    receipt = sign_query(to="447700900000", messageId="m-1", status="delivered")
    async with kind(tmp_path / "proxy", [ingest.port]).run() as proxy, proxy.open_client() as client:
        url = proxy.url(WEBHOOKS) + PATH

        async def post(body: bytes, **headers: str) -> aiohttp.ClientResponse:
            async with client.post(url, data=body, headers={"Content-Type": "application/json", **headers}) as answer:
                await answer.read()
            return answer

        first = await post(largest, Authorization=bearer(largest))
        assert (first.status, await ingest.take_appended(1)) == (200, [largest])
        before = upstream_connections(ingest)
        for _ in range(5):
            assert (await post(largest, Authorization=bearer(largest))).status == 200
        assert await ingest.take_appended(5) == [largest] * 5
        assert before == upstream_connections(ingest)

        async with client.get(f"{proxy.url(WEBHOOKS)}/webhooks/dlr?{receipt}") as answer:
            assert answer.status == 200
        assert await ingest.take_appended(1) == [receipt.encode()]

        unsigned = await post(b'{"a":1}')
        assert (unsigned.status, unsigned.headers["Retry-After"]) == (503, "5")
        assert (await post(largest + b" ", Authorization="Bearer x")).status == 413
        assert (await post(b'{"a":1}', **{"Content-Encoding": "gzip"})).status == 415
        assert "447700900000" not in proxy.access_log
        assert "Bearer" not in proxy.access_log


@dataclass(slots=True)
class RestartSender:
    """Sends webhooks one after the other, and keeps the answers."""

    client: aiohttp.ClientSession
    url: str
    statuses: list[int] = field(default_factory=list)
    stored: set[bytes] = field(default_factory=set)
    is_done: asyncio.Event = field(default_factory=asyncio.Event)

    async def send_all(self) -> None:
        """Send until `is_done` is set."""
        while not self.is_done.is_set():
            body = make_delivered(f"restart-{secrets.token_hex(8)}")
            headers = {"Content-Type": "application/json", "Authorization": bearer(body)}
            async with self.client.post(self.url, data=body, headers=headers) as answer:
                self.statuses.append(answer.status)
            if answer.status == 200:
                self.stored.add(body)
            await asyncio.sleep(0.005)

    async def has_answers(self, count: int) -> None:
        """Return after this number of further answers."""
        target = len(self.statuses) + count
        await becomes(lambda: len(self.statuses) >= target)


@anywhere
async def test_a_restart_of_ingest_loses_no_webhook(
    kind: type[ReverseProxy], ingest: Edge, tmp_path: Path, valkey_url: str, shard: Shard
) -> None:
    """Behind nginx two ingests that restart in turn answer all 200; failures are answered 5xx, and sent again."""
    (tmp_path / "second").mkdir()
    async with (
        Edge(tmp_path / "second", valkey_url, shard, **SIGNED).run() as second,
        kind(tmp_path / "proxy", [ingest.port, second.port]).run() as proxy,
        proxy.open_client() as client,
        asyncio.timeout(120),
        asyncio.TaskGroup() as senders,
    ):
        sender = RestartSender(client, proxy.url(WEBHOOKS) + PATH)
        for _ in range(SENDERS):
            senders.create_task(sender.send_all())
        await sender.has_answers(20)
        for edge in (ingest, second):
            edge.process.send(signal.SIGTERM)
            assert await edge.process.wait_for_end(30) == 0
            await edge.start()
            await sender.has_answers(20)
        assert set(sender.statuses) <= {200, *kind.may_answer}

        for edge in (ingest, second):
            edge.kill()
        await becomes(lambda: sender.statuses[-1] >= 500)
        await second.start()
        await becomes(lambda: sender.statuses[-1] == 200)
        await sender.has_answers(20)
        sender.is_done.set()

    assert set(sender.statuses) <= {200, 502, 503, 504}
    assert sender.stored <= set(await ingest.take_appended(len(sender.stored)))


@anywhere
async def test_the_console_works_behind_it(kind: type[ReverseProxy], console: ConsoleServer, tmp_path: Path) -> None:
    """Sign-in sees HTTPS, the host and the client's address; other origins are refused; live events pass at once."""
    proxied = kind(tmp_path / "proxy", console_port=console.settings.console_port)
    async with proxied.run() as proxy, proxy.open_client() as client:
        url = proxy.url(CONSOLE)
        link = await create_link(console.settings.console_database, url, Role.ADMIN)
        sign_in: dict[str, Any] = {"data": {"link": link.partition("link=")[2]}, "allow_redirects": False}

        foreign = {"Origin": "https://elsewhere.example", "X-Forwarded-For": SPOOFED}
        async with client.post(f"{url}/sign-in", headers=foreign, **sign_in) as answer:
            assert answer.status == 403
        headers = {"Origin": url, "X-Forwarded-For": SPOOFED, "X-Forwarded-Proto": "http"}
        async with client.post(f"{url}/sign-in", headers=headers, **sign_in) as answer:
            assert answer.status == 303
            (cookie,) = answer.headers.getall("Set-Cookie")
        assert cookie.startswith("__Host-")
        assert "Secure" in cookie
        async with client.get(f"{url}/api/v1/audit") as answer:
            assert {entry["address"] for entry in (await answer.json())["entries"]} == {CLIENT_ADDRESS}

        async with client.get(f"{url}/live?page=groups") as stream, asyncio.timeout(30):
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            for _ in range(3):
                await stream.content.readuntil(EVENT_END)
            assert stream.connection is not None
            assert stream.connection.transport is not None
            stream.connection.transport.abort()  # a close would wait for the other side, longer than the loop lives
