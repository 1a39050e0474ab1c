"""A real `ackstream ingest` to be hostile to, and raw sockets to be hostile with."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
from redis.asyncio import Redis

from stream.keys import Shard
from stream.redis.client import client
from tests.support.processes import Ingest
from tests.support.waiting import until

PATH = b"/webhooks/dlr"
WAIT_SECONDS = 90.0  # a machine may be busy
METRIC = re.compile(r"^(ackstream_\w+)(?:\{\w+=\"([^\"]*)\"\})? (\S+)$", re.MULTILINE)


def post(*headers: bytes, body: bytes = b"", line: bytes = b"POST /webhooks/dlr HTTP/1.1", host: bytes = b"x") -> bytes:
    """A request of these lines; of Host and these headers, each on its own line."""
    return b"\r\n".join([line, b"Host: " + host, *headers, b"", body])


def good(body: bytes, *headers: bytes) -> bytes:
    """A webhook as it should be."""
    return post(b"Content-Length: %d" % len(body), *headers, body=body)


LAST = post(b"Connection: close", line=b"GET /last HTTP/1.1")
"""A request answered 404 with a close: all earlier answers come before it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """All that came back on a connection until it was closed."""

    raw: bytes

    @property
    def answers(self) -> list[int]:
        """The status of each answer."""
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", self.raw)]


@contextmanager
def open_socket(port: int, *, buffer_bytes: int | None = None) -> Iterator[socket.socket]:
    """A socket to the port, that asyncio can use."""
    with socket.socket() as connection:
        if buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        connection.connect(("127.0.0.1", port))
        connection.setblocking(False)
        yield connection


async def receive_all(connection: socket.socket) -> Heard:
    """All that comes until the other side closes, politely or not."""
    loop, parts = asyncio.get_running_loop(), []
    async with asyncio.timeout(WAIT_SECONDS):
        with suppress(ConnectionError):
            while part := await loop.sock_recv(connection, 1 << 20):
                parts.append(part)
    return Heard(b"".join(parts))


async def talk(port: int, *parts: bytes) -> Heard:
    """Send these bytes, one packet after the other, and return what comes back until the connection is closed."""

    async def send() -> None:
        with suppress(ConnectionError):
            for place, part in enumerate(parts):
                if place:
                    await asyncio.sleep(0.02)  # so that they do not arrive as one
                await asyncio.get_running_loop().sock_sendall(connection, part)

    with open_socket(port) as connection:
        sending = asyncio.create_task(send())
        try:
            return await receive_all(connection)
        finally:
            sending.cancel()
            await asyncio.wait([sending])


class Edge(Ingest):
    """`ackstream ingest`, with signatures off by default, and its stream."""

    def __init__(self, folder: Path, redis_url: str, shard: Shard, **settings: str) -> None:
        direct = {"ack_budget_ms": "10000"}  # the tests read the stream, so no entry may go to the spool
        common = {"redis_url": redis_url, "stream": shard.name, "log_format": "json", **direct}
        super().__init__(folder, **{**common, **settings})
        self.shard = shard
        self._redis_url = redis_url

    @property
    def resident_bytes(self) -> int:
        """How much memory it takes now."""
        return int(psutil.Process(self.process.child.pid).memory_info().rss)

    async def take_appended(self, number: int = 0) -> list[bytes]:
        """Wait until the stream has this number of payloads; return them and empty the stream.

        On a machine that is busy some may have gone by the spool, and come a moment after their answer.
        """
        payloads: list[bytes] = []

        async def all_there() -> bool:
            entries: Any = await server.xrange(self.shard.stream)
            payloads.extend(fields[b"payload"] for _, fields in entries)
            if entries:
                await server.xdel(self.shard.stream, *(entry_id for entry_id, _ in entries))
            return len(payloads) >= number

        async with self.redis() as server:
            await until(all_there)
        return payloads

    async def metrics(self) -> dict[tuple[str, str], float]:
        """Each metric's value, by its name and its label's value."""
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self.admin_port}/metrics") as answer:
            lines = METRIC.findall(await answer.text())
        return {(name, label): float(value) for name, label, value in lines}

    async def takes_a_good_one(self, body: bytes = b'{"good":1}', headers: Sequence[bytes] = ()) -> bool:
        """Whether a good request on a new connection is answered 200, and nothing but it is on the stream."""
        answers = (await talk(self.port, good(body, b"Connection: close", *headers))).answers
        return answers == [200] and await self.take_appended(1) == [body]

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        """A client of its own, as each test has a loop of its own."""
        server = client(self._redis_url)
        try:
            yield server
        finally:
            await server.aclose()


def run_for_module(edge: Edge) -> Iterator[Edge]:
    """The body of a module's fixture: the process runs for all its tests, and has no fault of its own in any."""
    with asyncio.Runner() as runner:
        running = edge.run()
        yield runner.run(running.__aenter__())
        runner.run(running.__aexit__(None, None, None))
    assert not any(word in edge.process.said for word in ("ingest.failed", "never retrieved", "Traceback"))
