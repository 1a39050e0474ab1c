"""The side of a child: it inherits sockets from its supervisor, and reports to it on a channel.

The supervisor sends a line, and the child answers with a `ChildReport`. A child sends its last report just before it
ends, so that its counts survive it. When the channel ends first, the supervisor was killed, and the child stops.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Self

import structlog
from prometheus_client import REGISTRY

from runtime import logs
from runtime.children.report import ChildReport
from runtime.health import Ready, run_health_server
from runtime.process import Serve
from runtime.tasks import cancel_and_wait

log = structlog.get_logger("process")

NOT_SERVING = "it is starting or stopping"
FAREWELL_SECONDS = 5.0
"""How long the end of a child waits for its supervisor to read the last report."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """The inheritance of a child: its number, the number of all children, and file descriptors."""

    number: int
    count: int
    channel: int
    listeners: Sequence[int]
    """The sockets of the port that all children serve, bound by the supervisor."""

    @property
    def descriptors(self) -> Sequence[int]:
        """All file descriptors."""
        return self.channel, *self.listeners

    def to_option(self) -> str:
        """Return the text for the child's command line."""
        return ",".join(map(str, (self.number, self.count, *self.descriptors)))

    @classmethod
    def from_option(cls, text: str) -> Self:
        """Read the text of `to_option`. Raises ValueError."""
        number, count, channel, *listeners = map(int, text.split(","))
        return cls(number, count, channel, listeners)


class Child:
    """The part of this process that depends on its supervisor."""

    def __init__(self, inheritance: Inheritance) -> None:
        self._inheritance = inheritance
        self._ready: Ready = lambda: NOT_SERVING
        self._report = ChildReport(NOT_SERVING, ())
        for descriptor in inheritance.descriptors:
            os.set_inheritable(descriptor, False)  # a handler may start processes
        logs.add_processor(lambda _logger, _method, event: {**event, "process": inheritance.number})

    def take_listeners(self) -> list[socket.socket]:
        """Return the inherited sockets of the port. The caller listens on them and closes them."""
        return [socket.socket(fileno=listener) for listener in self._inheritance.listeners]

    def divide(self, limit: int) -> int:
        """Return this child's share of a limit for the machine."""
        return -(-limit // self._inheritance.count)

    @contextmanager
    def report_ready(self, ready: Ready) -> Iterator[None]:
        """Let the reports of the block's time have the reason that ``ready`` returns."""
        self._ready = ready
        try:
            yield
        finally:
            self._ready = lambda: NOT_SERVING

    async def run(self, serve: Serve, stop: asyncio.Event) -> None:
        """Run ``serve`` and report to the supervisor; set ``stop`` if the supervisor has ended."""
        channel = socket.socket(fileno=self._inheritance.channel)
        reader, writer = await asyncio.open_unix_connection(sock=channel)
        answering = asyncio.create_task(self._answer(reader, writer, stop), name="reports")
        try:
            await serve(stop)
        finally:
            await cancel_and_wait([answering])
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await self._send(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stop: asyncio.Event) -> None:
        with suppress(OSError):
            while await reader.readline():
                await self._send(writer)
        if not stop.is_set():
            log.info("process.stopping", why="the supervisor ended")
            stop.set()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self._encode_report())
        await writer.drain()

    def _encode_report(self) -> bytes:
        """Return the report, with the metrics of the one before if these cannot be read."""
        reason = self._ready()
        try:
            report = ChildReport(reason, list(REGISTRY.collect()))
            line = report.encode()
        except Exception as exc:  # noqa: BLE001 - code of a handler's own metrics may raise anything
            what = "correct the metrics of your handlers; /metrics has older values of this process until then"
            log.warning("process.metrics_failed", error=type(exc).__name__, what=what, sampled=True)
            return ChildReport(reason, self._report.families).encode()
        self._report = report
        return line


@asynccontextmanager
async def open_admin(
    host: str, port: int, ready: Ready, report: Callable[[], bytes], child: Child | None
) -> AsyncIterator[int | None]:
    """Serve health, metrics and settings; yields the port. A child reports to its supervisor instead."""
    if child is not None:
        with child.report_ready(ready):
            yield None
        return
    async with run_health_server(host, port, ready, report=report) as admin_port:
        yield admin_port
