"""Standard output for logs: lines go through a bounded queue and a thread, so logging never blocks and never raises.

A reader that is gone, a disk that is full or a pipe that nobody reads must change nothing but the log. A line that
cannot be written is lost and counted. One write has whole lines and is at most as long as a pipe takes at once, because
processes may share the output.
"""

import os
import select
import threading
from collections.abc import Iterator

from runtime.metrics import LOST

WAITING_CHARACTERS = 8 * 1024 * 1024
LOOK_SECONDS = 1.0  # a descriptor that does not block is asked so often whether it takes more


class LogOutput:
    """What loggers write lines to. ``descriptor`` is None where the process has no standard output."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._lock = threading.RLock()  # a garbage collection may log while a line is put into the queue
        self._lines: list[str] = []
        self._characters = 0
        self._arrived = threading.Event()
        self._empty = threading.Event()
        self._empty.set()
        self._is_torn = False
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, line: str) -> None:
        """Take a line with its end. Returns at once; raises nothing."""
        with self._lock:
            if self._characters + len(line) > WAITING_CHARACTERS:
                LOST.inc()
                return
            self._lines.append(line)
            self._characters += len(line)
            self._empty.clear()
        self._arrived.set()

    def flush(self) -> None:
        """Do nothing: the thread writes as soon as it can."""

    def drain(self, seconds: float) -> None:
        """Return when everything is written or lost, after ``seconds`` at the latest."""
        self._empty.wait(seconds)

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
            select.select((), (self._descriptor,), (), LOOK_SECONDS)
            return 0


def _join(lines: list[str]) -> Iterator[bytes]:
    """Yield lines together, up to what a pipe takes in one piece; a longer line comes alone."""
    part = b""
    for line in lines:
        encoded = line.encode(errors="backslashreplace")
        if part and len(part) + len(encoded) > select.PIPE_BUF:
            yield part
            part = b""
        part += encoded
    if part:
        yield part
