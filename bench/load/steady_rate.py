"""Open-loop load with a latency sample for each answer, counted from the time the request was due.

``python -m bench.load.steady_rate PORT PATH RATE STATUSES`` sends STATUSES different signed statuses in turn; with 0
each status is new. It prints a line when it starts. When its standard input ends it prints one line with a sample for
each answer. A server that stops for a while is charged for each request that was due in that time. Any answer but 200,
or a lost connection, ends the run with an error.

It waits in ``select``, to the microsecond: the timers of an event loop round up to a millisecond, which is more than
many servers take.
"""

import gc
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, starmap
from pathlib import Path
from typing import NamedTuple, TextIO

import orjson

from bench.rig.payloads import endless_payloads, make_request, payloads
from bench.rig.processes import HOST, environment, run_process

CONNECTIONS = 32
LATEST_SECONDS = 60.0
LEAST_ANSWERS = 100


class Sample(NamedTuple):
    """A request: when it was due (``time.monotonic``), and the seconds from then until it was sent and answered."""

    due: float
    seconds: float
    late_seconds: float


@dataclass(slots=True, eq=False)
class SteadyConnection:
    """A connection with at most one request in flight."""

    socket: socket.socket
    due: float = 0.0
    sent: float = 0.0
    heard: bytes = b""

    def fileno(self) -> int:
        """Return the number by which ``select`` knows it."""
        return self.socket.fileno()

    def send(self, request: bytes, due: float) -> None:
        """Send the request that was due at this time."""
        self.due, self.sent, self.heard = due, time.monotonic(), b""
        self.socket.sendall(request)

    def read_sample(self) -> Sample | None:
        """Read a part of the answer, which has no body. Return the sample if that was the last part."""
        part = self.socket.recv(4096)
        now = time.monotonic()
        assert part, "the server closed a connection"
        self.heard += part
        if not self.heard.endswith(b"\r\n\r\n"):
            return None
        assert self.heard.startswith(b"HTTP/1.1 200 "), f"not a 200: {self.heard[:100]!r}"
        return Sample(self.due, now - self.due, self.sent - self.due)


class SteadySender:
    """Sends due requests on free connections, and records a sample for each answer."""

    def __init__(self, port: int, requests: Iterator[bytes], rate: float) -> None:
        self._requests = requests
        self._rate = rate
        self._free = deque(SteadyConnection(socket.create_connection((HOST, port))) for _ in range(CONNECTIONS))
        self._in_flight: list[SteadyConnection] = []
        self.samples: list[Sample] = []

    def run(self) -> None:
        """Send until standard input ends, then wait for the answers in flight."""
        began, number, is_ended = time.monotonic(), 0, False
        while not is_ended:
            due = began + number / self._rate
            if self._free and due <= time.monotonic():
                connection = self._free.popleft()
                self._in_flight.append(connection)
                connection.send(next(self._requests), due)
                number += 1
            else:
                is_ended = self._receive(due - time.monotonic() if self._free else LATEST_SECONDS, [sys.stdin])
        deadline = time.monotonic() + LATEST_SECONDS
        while self._in_flight:
            assert time.monotonic() < deadline, f"{len(self._in_flight)} requests got no answer"
            self._receive(LATEST_SECONDS, [])

    def _receive(self, seconds: float, signals: list[TextIO]) -> bool:
        """Read answers, after waiting for one for this time. Return whether one of the signals came."""
        watched: list[TextIO | SteadyConnection] = [*signals, *self._in_flight]
        readable, _, _ = select.select(watched, (), (), max(0.0, seconds))
        for each in readable:
            if isinstance(each, SteadyConnection) and (sample := each.read_sample()) is not None:
                self.samples.append(sample)
                self._in_flight.remove(each)
                self._free.append(each)
        return any(signal in readable for signal in signals)


class SteadyLoad:
    """A load in its own process."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        self._child = child

    def samples(self) -> list[Sample]:
        """End it, and return its samples in the order in which they were due."""
        out, _ = self._child.communicate(timeout=LATEST_SECONDS)
        assert self._child.returncode == 0, "the load failed"
        return sorted(starmap(Sample, orjson.loads(out)))


def percentile_ms(seconds: Iterable[float], percent: int) -> float:
    """Return a percentile of these times, in milliseconds."""
    ordered = sorted(seconds)
    assert len(ordered) >= LEAST_ANSWERS, f"only {len(ordered)} answers to judge by"
    return ordered[len(ordered) * percent // 100] * 1000


def p99_ms(samples: Iterable[Sample]) -> float:
    """Return the 99th percentile of the answer times."""
    return percentile_ms((sample.seconds for sample in samples), 99)


@contextmanager
def run_load(port: int, path: str, rate: float, core: int, folder: Path, *, statuses: int = 1) -> Iterator[SteadyLoad]:
    """Load the server for the length of the block, with this many different statuses in turn, with 0 all new."""
    command = sys.executable, "-m", "bench.load.steady_rate", *map(str, (port, path, rate, statuses))
    with run_process(*command, core=core, folder=folder, environment=environment(), talks=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        yield SteadyLoad(child)


def make_requests(path: str, statuses: int) -> Iterator[bytes]:
    """Return the requests without end. Those of a fixed number of statuses are made now, new ones when they are due."""
    if statuses == 0:
        return (make_request(path, payload) for payload in endless_payloads())
    return cycle([make_request(path, payload) for payload in payloads(statuses)])


def main() -> None:
    """Run the load of the command line."""
    port, path, rate, statuses = sys.argv[1:]
    sender = SteadySender(int(port), make_requests(path, int(statuses)), float(rate))
    gc.disable()  # a collection would delay requests
    print("begun", flush=True)
    sender.run()
    print(orjson.dumps(list(map(list, sender.samples))).decode())


if __name__ == "__main__":
    main()
