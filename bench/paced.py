"""A load of so many good requests a second, whatever the answers take.

``python -m bench.paced PORT PATH RATE SECONDS`` prints as JSON how long the answers took, counted from the moment when
each request was due. Anything but a 200 ends the run with an error.
"""

import asyncio
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import orjson
import uvloop

from bench.load import request
from bench.processes import HOST, environment

CONNECTIONS = 32
LATEST_SECONDS = 10.0
HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Paced:
    """How many were sent, and how long their answers took."""

    sent: int
    median_ms: float
    p99_ms: float
    longest_ms: float


class Client(asyncio.Protocol):
    """One keep-alive connection, which has at most one request on its way."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._due = 0.0
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = cast("asyncio.Transport", transport)
        self._load.free.append(self)

    def send(self, due: float) -> None:
        """Send the request that was due at this time."""
        assert self._transport is not None
        self._due, self._heard = due, b""
        self._transport.write(self._load.prepared)

    def data_received(self, data: bytes) -> None:
        """Take the time when the answer is whole; then be ready again, or send what is due."""
        self._heard += data
        if not self._heard.endswith(HEAD_END):
            return
        if not self._heard.startswith(b"HTTP/1.1 200 OK\r\n"):
            self._load.fail(AssertionError(f"not a 200: {self._heard!r}"))
            return
        self._load.took.append(time.perf_counter() - self._due)
        self._load.next_for(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail: nobody but this side ends a connection."""
        self._load.fail(exc or ConnectionResetError("the server closed a connection"))


class Load:
    """What all connections share."""

    def __init__(self, prepared: bytes, number: int) -> None:
        self.prepared = prepared
        self.free: deque[Client] = deque()
        self.took: list[float] = []
        self._waiting: deque[float] = deque()
        self._number = number
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, due: float) -> None:
        """Send one request now, or as soon as a connection is free."""
        if self.free:
            self.free.popleft().send(due)
        else:
            self._waiting.append(due)

    def next_for(self, client: Client) -> None:
        """Give the client what waits, if something does."""
        if self._waiting:
            client.send(self._waiting.popleft())
        else:
            self.free.append(client)
        if len(self.took) == self._number and not self.ended.done():
            self.ended.set_result(None)

    def fail(self, why: BaseException) -> None:
        """End the run with an error."""
        if not self.ended.done():
            self.ended.set_exception(why)


async def run(port: int, path: str, rate: int, seconds: float) -> Paced:
    """Send so many requests a second for so long."""
    loop, number = asyncio.get_running_loop(), int(rate * seconds)
    load = Load(request(path), number)
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Client(load), HOST, port)
    began = time.perf_counter()  # uvloop's own clock has whole milliseconds
    for place in range(number):
        due = began + place / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        load.send(due)
    await asyncio.wait_for(load.ended, LATEST_SECONDS)
    took = sorted(1000 * one for one in load.took)
    return Paced(number, took[number // 2], took[number * 99 // 100], took[-1])


def paced(port: int, path: str, rate: int, seconds: float, folder: Path) -> Paced:
    """Run such a load in a process of its own, on the cores of this one."""
    command = [sys.executable, "-m", "bench.paced", str(port), path, str(rate), str(seconds)]
    limit = seconds + LATEST_SECONDS + 20
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=limit, cwd=folder, env=environment())
    return Paced(**orjson.loads(done.stdout))


if __name__ == "__main__":
    found = uvloop.run(run(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
    print(orjson.dumps(asdict(found)).decode())
