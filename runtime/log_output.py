"""Standard output for logs: lines go through a bounded queue and a thread, so logging never blocks and never raises.

If the reader has gone, the disk is full or nobody reads the pipe, only the log suffers. A line that cannot be written
is lost and counted. Each write holds whole lines and fits into a pipe's atomic size, because processes may share the
output.
"""

import asyncio
import os
import select
import threading
import time
from collections.abc import Iterator

from runtime.metrics import LOST

WAITING_CHARACTERS = 8 * 1024 * 1024
POLL_SECONDS = 1.0  # between two tries to write to a non-blocking descriptor
WAIT_SECONDS = 0.001


class LogOutput:
    """The file object that loggers write lines to. A process without standard output gives no ``descriptor``."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._lock = threading.RLock()  # reentrant: a garbage collection during `write` may log
        self._lines: list[str] = []
        self._characters = 0
        self._queued = self._finished = 0
        self._arrived = threading.Event()
        self._empty = threading.Event()
        self._empty.set()
        self._is_torn = False
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, line: str) -> None:
        """Queue a line that ends with a newline. Returns at once and never raises."""
        with self._lock:
            if self._characters + len(line) > WAITING_CHARACTERS:
                LOST.inc()
                return
            self._lines.append(line)
            self._characters += len(line)
            self._queued += 1
            self._empty.clear()
        self._arrived.set()

    def flush(self) -> None:
        """Do nothing: the thread writes each line as soon as it can."""

    def drain(self, seconds: float) -> None:
        """Return when every line is written or lost, or after ``seconds``."""
        self._empty.wait(seconds)

    async def wait_until_written(self, seconds: float) -> None:
        """Return when the lines queued until now are written or lost, or after ``seconds``."""
        last, deadline = self._queued, time.monotonic() + seconds
        while self._finished < last and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread of its own writes
            await asyncio.sleep(WAIT_SECONDS)

    def _run(self) -> None:
        while True:
            self._arrived.wait()
            self._arrived.clear()
            with self._lock:
                lines, self._lines = self._lines, []
            for part in _join(lines):
                self._write(part)
            with self._lock:
                self._characters -= sum(map(len, lines))
                self._finished += len(lines)
                if not self._characters:
                    self._empty.set()

    def _write(self, part: bytes) -> None:
        rest = b"\n" + part if self._is_torn else part
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
            self._is_torn = False
        except OSError:
            LOST.inc(rest.count(b"\n"))
            self._is_torn = len(rest) < len(part)

    def _write_some(self, rest: bytes) -> int:
        if self._descriptor is None:
            raise OSError
        try:
            return os.write(self._descriptor, rest)
        except BlockingIOError:
            select.select((), (self._descriptor,), (), POLL_SECONDS)
            return 0


def _join(lines: list[str]) -> Iterator[bytes]:
    """Join lines into chunks that a pipe takes atomically; a longer line is a chunk of its own."""
    part = b""
    for line in lines:
        encoded = line.encode(errors="backslashreplace")
        if part and len(part) + len(encoded) > select.PIPE_BUF:
            yield part
            part = b""
        part += encoded
    if part:
        yield part
