"""Open-loop load: POSTs are sent at a fixed rate, whether or not earlier ones were answered.

``python -m bench.load.open_loop PORT PATH RATE FILE`` sends until its standard input ends and the last answers have
arrived. It then writes a line for each request: number, due time (``time.monotonic``), seconds from then until the
answer, and status (0 if the connection was lost).
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

from bench.rig.payloads import payloads
from bench.rig.processes import HOST

CONNECTIONS = 256
TICK_SECONDS = 0.002
LAST_ANSWER_SECONDS = 20.0
CONNECT_AGAIN_SECONDS = 0.02

_ID = b"aaaaaaaa-bbbb-4ccc-8ddd-000000000000"


def message_id(number: int) -> str:
    """Return the message id of the request of this number."""
    return f"{number:08x}-bbbb-4ccc-8ddd-000000000000"


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and its answer."""

    number: int
    due: float
    took: float
    status: int


def read(file: Path) -> Iterator[Sent]:
    """Read the file of a load."""
    with file.open() as lines:
        for line in lines:
            number, due, took, status = line.split()
            yield Sent(int(number), float(due), float(took), int(status))


class OpenLoop:
    """The state shared by all connections."""

    def __init__(self, path: str) -> None:
        body = payloads(1)[0]
        assert body.count(_ID) == 1
        before, after = body.split(_ID)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: bench\r\nAccept: */*\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._before, self._after = head.encode() + before, after
        self.waiting: deque[tuple[int, float]] = deque()
        self.free: deque[OpenConnection] = deque()
        self.sent: list[Sent] = []
        self.due = 0

    def request(self, number: int) -> bytes:
        """Return the request of this number."""
        return self._before + message_id(number).encode() + self._after

    def send(self) -> None:
        """Send waiting requests on free connections."""
        while self.waiting and self.free:
            self.free.popleft().send(*self.waiting.popleft())

    async def run(self, rate: float, stop: asyncio.Event) -> None:
        """Send at this rate until stopped; return when all requests are answered."""
        began = time.monotonic()
        while not stop.is_set():
            now = time.monotonic()
            while self.due < (now - began) * rate:
                self.waiting.append((self.due, began + self.due / rate))
                self.due += 1
            self.send()
            await asyncio.sleep(TICK_SECONDS)
        deadline = time.monotonic() + LAST_ANSWER_SECONDS
        while len(self.sent) < self.due:
            assert time.monotonic() < deadline, f"{self.due - len(self.sent)} requests got no answer"
            await asyncio.sleep(TICK_SECONDS)


class OpenConnection(asyncio.Protocol):
    """One connection, reopened when it is lost, with at most one request in flight."""

    def __init__(self, load: OpenLoop) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._in_flight: tuple[int, float] | None = None
        self._head = b""
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Mark the connection free."""
        self._transport = cast("asyncio.Transport", transport)
        self._load.free.append(self)
        self._load.send()

    def send(self, number: int, due: float) -> None:
        """Send this request."""
        assert self._transport is not None
        self._in_flight = number, due
        self._transport.write(self._load.request(number))

    def data_received(self, data: bytes) -> None:
        """Record the answer; answers have no body."""
        self._head += data
        if not self._head.endswith(b"\r\n\r\n"):
            return
        self._note(int(self._head[9:12]))
        self._head = b""
        if self._transport is not None and not self._transport.is_closing():
            self._load.free.append(self)
            self._load.send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's interface
        """Record the request that was lost."""
        with suppress(ValueError):
            self._load.free.remove(self)
        self._note(0)
        self.lost.set()

    def _note(self, status: int) -> None:
        if self._in_flight is not None:
            number, due = self._in_flight
            self._in_flight = None
            self._load.sent.append(Sent(number, due, time.monotonic() - due, status))


async def _keep_connected(load: OpenLoop, port: int) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            _, connection = await loop.create_connection(lambda: OpenConnection(load), HOST, port)
        except OSError:
            await asyncio.sleep(CONNECT_AGAIN_SECONDS)
        else:
            await connection.lost.wait()


async def _main(port: int, path: str, rate: float, file: Path) -> None:
    load, stop = OpenLoop(path), asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
    connected = [asyncio.create_task(_keep_connected(load, port)) for _ in range(CONNECTIONS)]
    await load.run(rate, stop)
    for task in connected:
        task.cancel()
    with file.open("w") as lines:
        lines.writelines(
            f"{sample.number} {sample.due:.6f} {sample.took:.6f} {sample.status}\n" for sample in load.sent
        )


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])))
