"""Open-loop load with a latency sample for each answer, counted from the time the request was due.

``python -m bench.load.steady_rate PORT PATH RATE`` prints a line when it starts. When its standard input ends it prints
one line with a sample for each answer: due time (``time.monotonic``) and seconds until the answer. A server that stops
for a while is charged for each request that was due in that time. Any answer but 200, or a lost connection, ends the
run with an error.
"""

import asyncio
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import orjson
import uvloop

from bench.load.closed_loop import request
from bench.rig.processes import HOST, environment, run_process

CONNECTIONS = 32
TICK_SECONDS = 0.0005
LATEST_SECONDS = 10.0
LEAST_ANSWERS = 100

Sample = tuple[float, float]


class Sender:
    """Sends due requests on free connections and records the time of each answer."""

    def __init__(self, prepared: bytes, rate: float) -> None:
        self._prepared = prepared
        self._period = 1 / rate
        self._free: deque[SteadyConnection] = deque()
        self._fault: Exception | None = None
        self.samples: list[Sample] = []

    def is_free(self, connection: "SteadyConnection") -> None:
        """Mark the connection free."""
        self._free.append(connection)

    def fail(self, fault: Exception) -> None:
        """End the run with this error."""
        self._fault = self._fault or fault

    async def run(self, ended: asyncio.Event) -> None:
        """Send until ``ended``, then wait for the answers in flight."""
        due = time.monotonic()
        while not ended.is_set():
            while self._free and due <= time.monotonic():
                self._free.popleft().send(self._prepared, due)
                due += self._period
            await self._wait(due - time.monotonic())
        async with asyncio.timeout(LATEST_SECONDS):
            while len(self._free) < CONNECTIONS:
                await self._wait(TICK_SECONDS)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, TICK_SECONDS))
        if self._fault is not None:
            raise self._fault


class SteadyConnection(asyncio.Protocol):
    """A connection with at most one request in flight."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._transport: asyncio.Transport | None = None
        self._due = 0.0
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Mark the connection free."""
        self._transport = cast("asyncio.Transport", transport)
        self._sender.is_free(self)

    def send(self, prepared: bytes, due: float) -> None:
        """Send the request that was due at this time."""
        assert self._transport is not None
        self._due, self._heard = due, b""
        self._transport.write(prepared)

    def data_received(self, data: bytes) -> None:
        """Record the answer when it is complete; it has no body."""
        self._heard += data
        if not self._heard.endswith(b"\r\n\r\n"):
            return
        if not self._heard.startswith(b"HTTP/1.1 200 "):
            self._sender.fail(AssertionError(f"not a 200: {self._heard[:100]!r}"))
            return
        self._sender.samples.append((self._due, time.monotonic() - self._due))
        self._sender.is_free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail: the server must not close a connection."""
        self._sender.fail(exc or ConnectionResetError("the server closed a connection"))


async def run(port: int, path: str, rate: float) -> list[Sample]:
    """Load the server on the port until standard input ends."""
    loop = asyncio.get_running_loop()
    sender, ended = Sender(request(path), rate), asyncio.Event()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: SteadyConnection(sender), HOST, port)
    loop.add_reader(sys.stdin, ended.set)
    print("begun", flush=True)
    await sender.run(ended)
    return sender.samples


class SteadyLoad:
    """A load in its own process."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        self._child = child

    def samples(self) -> list[Sample]:
        """End it, and return its samples."""
        out, _ = self._child.communicate(timeout=30)
        assert self._child.returncode == 0, "the load failed"
        return [(due, seconds) for due, seconds in orjson.loads(out)]


def p99_ms(samples: list[Sample]) -> float:
    """Return the 99th percentile of the answer times."""
    latencies = sorted(seconds for _, seconds in samples)
    assert len(latencies) >= LEAST_ANSWERS, f"only {len(latencies)} answers to judge by"
    return latencies[len(latencies) * 99 // 100] * 1000


@contextmanager
def run_load(port: int, path: str, rate: float, core: int, folder: Path) -> Iterator[SteadyLoad]:
    """Load the server for the length of the block."""
    command = sys.executable, "-m", "bench.load.steady_rate", str(port), path, str(rate)
    with run_process(*command, core=core, folder=folder, environment=environment(), talks=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        yield SteadyLoad(child)


def main() -> None:
    """Run the load of the command line."""
    port, path, rate = sys.argv[1:]
    print(orjson.dumps(uvloop.run(run(int(port), path, float(rate)))).decode())


if __name__ == "__main__":
    main()
