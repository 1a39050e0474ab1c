"""Closed-loop load: each keep-alive connection sends one prepared POST, reads the answer and sends the next.

``python -m bench.load.closed_loop PORT PATH SECONDS PID SIZE CONNECTIONS WAVES`` prints the result as JSON;
``run_load`` runs it and reads the result. In waves, all connections send together, and again once all are answered:
the server then takes as many at once on a busy machine as on a quiet one. Each answer must be a 200 with a
Content-Length; any other answer, or a lost connection, ends the run with an error.
"""

import asyncio
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import orjson
import uvloop

from bench.rig.payloads import make_request, payloads
from bench.rig.processes import HOST, environment, family_cpu_seconds
from bench.rig.statuses import sized_payloads

CONNECTIONS = 64
WARM_UP_SECONDS = 0.5
LAST_ANSWER_SECONDS = 10.0

_HEADS = 1000  # different answer heads to remember; the Date header makes a new one each second


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of a load. ``busy``: the share of one core that the process used during the count."""

    rate: float
    """Answers per second, without the warm-up."""
    answered: int
    """All answers, with the warm-up."""
    server_busy: float
    load_busy: float

    @property
    def server_us(self) -> float:
        """CPU microseconds of the server for each request."""
        return self.server_busy / self.rate * 1e6


def request(path: str, size: int = 0) -> bytes:
    """Return the request: a signed status of about 560 bytes, or of ``size``, as the provider posts it."""
    return make_request(path, sized_payloads(1, size)[0] if size else payloads(1)[0])


class ClosedLoop:
    """The state shared by all connections."""

    def __init__(self, prepared: bytes, waves: int) -> None:
        self.prepared = prepared
        self._in_wave = waves
        self._wave: list[ClosedConnection] = []
        self.answered = 0
        self.sending = True
        self.waiting = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lengths: dict[bytes, int] = {}

    def body_bytes(self, head: bytes) -> int:
        """Return the length of the body that follows this head."""
        length = self._lengths.get(head)
        if length is None:
            length = _content_length(head)
            if len(self._lengths) >= _HEADS:
                self._lengths.clear()
            self._lengths[head] = length
        return length

    def send_next(self, connection: "ClosedConnection") -> None:
        """Send the next request of the connection: now, or with the next wave."""
        self._wave.append(connection)
        if len(self._wave) >= self._in_wave:
            wave, self._wave = self._wave, []
            for each in wave:
                each.send()

    def fail(self, why: BaseException) -> None:
        """End the run with an error."""
        if not self.ended.done():
            self.ended.set_exception(why)

    def finish_one(self) -> None:
        """Count a connection that got its last answer."""
        self.waiting -= 1
        if not self.waiting and not self.ended.done():
            self.ended.set_result(None)


def _content_length(head: bytes) -> int:
    first, *headers = head.split(b"\r\n")
    assert first.startswith(b"HTTP/1.1 200 "), f"not a 200: {head!r}"
    for header in headers:
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise AssertionError(f"no Content-Length: {head!r}")


class ClosedConnection(asyncio.Protocol):
    """One connection: at any time one request is on its way."""

    def __init__(self, load: ClosedLoop) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._partial = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._load.waiting += 1
        self._load.send_next(self)

    def send(self) -> None:
        """Send a request, or end after the last answer."""
        if self._load.sending and self._transport is not None:
            self._transport.write(self._load.prepared)
        else:
            self._load.finish_one()

    def data_received(self, data: bytes) -> None:
        """Count the answer once it is whole, and send the next request."""
        if self._partial:
            data = self._partial + data
        head_end = data.find(b"\r\n\r\n")
        try:
            missing = 1 if head_end < 0 else head_end + 4 + self._load.body_bytes(data[:head_end]) - len(data)
            assert missing >= 0, f"more than one answer to one request: {data!r}"
        except (AssertionError, ValueError) as exc:
            self._load.fail(exc)
            return
        if missing:
            self._partial = data
            return
        self._partial = b""
        self._load.answered += 1
        self._load.send_next(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail: the server must not close a connection."""
        self._load.fail(exc or ConnectionResetError("the server closed a connection"))


def total(pid: int) -> float:
    """Return the CPU seconds of the server and its children."""
    return sum(family_cpu_seconds(pid).values())


async def run(port: int, path: str, seconds: float, pid: int, size: int, connections: int, waves: int) -> Loaded:
    """Load the server on the port, with process id ``pid`` and perhaps children, for ``seconds`` after the warm-up."""
    loop = asyncio.get_running_loop()
    load = ClosedLoop(request(path, size), connections if waves else 1)
    for _ in range(connections):
        await loop.create_connection(lambda: ClosedConnection(load), HOST, port)
    await _unless_ended(load, WARM_UP_SECONDS)
    began, before, server, load_cpu = time.perf_counter(), load.answered, total(pid), time.process_time()
    await _unless_ended(load, seconds)
    took, counted = time.perf_counter() - began, load.answered - before
    server_busy, load_busy = (total(pid) - server) / took, (time.process_time() - load_cpu) / took
    load.sending = False
    await asyncio.wait_for(load.ended, LAST_ANSWER_SECONDS)
    return Loaded(counted / took, load.answered, server_busy, load_busy)


async def _unless_ended(load: ClosedLoop, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(load.ended), seconds)


def run_load(
    port: int,
    path: str,
    seconds: float,
    pid: int,
    folder: Path,
    *,
    size: int = 0,
    connections: int = CONNECTIONS,
    waves: bool = False,
) -> Loaded:
    """Run a load in its own process, on the cores of this one. Raises CalledProcessError if it fails."""
    arguments = map(str, (port, path, seconds, pid, size, connections, int(waves)))
    command = [sys.executable, "-m", "bench.load.closed_loop", *arguments]
    limit = seconds + WARM_UP_SECONDS + LAST_ANSWER_SECONDS + 20
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=limit, cwd=folder, env=environment())
    return Loaded(**orjson.loads(result.stdout))


def main() -> None:
    """Run the load of the command line."""
    port, path, seconds, *numbers = sys.argv[1:]
    pid, size, connections, waves = map(int, numbers)
    loaded = uvloop.run(run(int(port), path, float(seconds), pid, size, connections, waves))
    print(orjson.dumps(asdict(loaded)).decode())


if __name__ == "__main__":
    main()
