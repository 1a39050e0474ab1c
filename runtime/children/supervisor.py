"""Runs several processes of one command, and answers for them on one admin port.

The supervisor never accepts a connection itself. It has a listening socket for each number of a child, all on the same
port (``SO_REUSEPORT``), and the kernel spreads new connections over them evenly. (With one socket for all children,
every child wakes up for each connection, and one child had up to twenty times the connections of another.) The socket
outlives a child that is replaced, so no connection is lost that waits in its queue.

A child that ends by itself is replaced, and so is one that hangs, because it is killed. Until its successor starts, its
socket is closed, and the others get the new connections. SIGHUP replaces all children, one after the other; each new
child is ready before the old one stops.
"""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from runtime.children.child_process import HURRY_SECONDS, ChildProcess
from runtime.children.merged_metrics import Families, MergedMetrics
from runtime.errors import CommandError
from runtime.health import run_health_server
from runtime.metrics import CHILD_DEATHS
from runtime.server_socket import close_all, join_port
from runtime.tasks import Backoff, cancel_and_wait

log = structlog.get_logger("supervisor")

READY_SECONDS = 120.0
"""How long a rolling restart waits for a new child."""
STEADY_SECONDS = 60.0
"""If a child ran for at least this time, the back-off starts at its first delay again."""
KILL_AFTER_SECONDS = 5.0
"""How much longer than its grace a child may take to stop."""
Reserve = Callable[[], Awaitable[Sequence[socket.socket]]]
"""Reserves the port for the children: a socket for each address."""
OWN_METRICS = ("process_", "python_", "ackstream_child_", "ackstream_log_", "ackstream_metrics_read_")
"""The metrics that a supervisor has itself; all others are those of its children."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The children of a supervisor. ``command`` follows the name of the interpreter."""

    command: Sequence[str]
    count: int
    grace_seconds: float
    admin_host: str
    admin_port: int
    report: Callable[[], bytes]
    """Returns the JSON for ``/settings``."""


async def supervise(plan: Plan, reserve: Reserve, stop: asyncio.Event) -> None:
    """Run the children until ``stop``.

    Raises CommandError if a port is taken, or if a child cannot be started.
    """
    supervisor = Supervisor(plan, await reserve(), stop)
    registry = CollectorRegistry()
    registry.register(supervisor.metrics)
    try:
        async with run_health_server(
            plan.admin_host,
            plan.admin_port,
            supervisor.not_ready_reason,
            registry,
            plan.report,
        ) as admin_port:
            log.info("supervisor.started", processes=plan.count, admin_port=admin_port)
            await supervisor.run()
    finally:
        supervisor.close_listeners()
    log.info("supervisor.stopped")


class Supervisor:
    """The children by number, from 1."""

    def __init__(self, plan: Plan, reserved: Sequence[socket.socket], stop: asyncio.Event) -> None:
        self._plan = plan
        self._reserved = reserved
        self._listeners: dict[int, list[socket.socket]] = {}
        self._stop = stop
        self._restart = asyncio.Event()
        self._children: dict[int, ChildProcess] = {}
        self._running: set[ChildProcess] = set()
        self._kill_after = plan.grace_seconds + KILL_AFTER_SECONDS
        self.metrics = MergedMetrics(self._read_metrics)

    async def run(self) -> None:
        """Keep the children running until ``stop``, then end them. Raises CommandError."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._restart.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(1, self._plan.count + 1):
                    tasks.create_task(self._keep_running(number), name=f"child {number}")
                tasks.create_task(self._restart_when_asked(), name="rolling restart")
                await self._stop.wait()
                self.close_listeners()
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    def close_listeners(self) -> None:
        """Close the sockets of the port. They accept connections until the children have closed them too."""
        close_all(self._reserved)
        for listeners in self._listeners.values():
            close_all(listeners)

    def not_ready_reason(self) -> str | None:
        """Return the reasons of the children that are not ready; None if all are."""
        numbers = range(1, self._plan.count + 1)
        reasons = {
            number: self._children[number].not_ready_reason if number in self._children else "it is not started"
            for number in numbers
        }
        return "\n".join(f"process {number}: {reason}" for number, reason in reasons.items() if reason) or None

    async def _keep_running(self, number: int) -> None:
        if self._stop.is_set():  # before it has started
            return
        backoff = Backoff()
        self._children[number] = await self._start(number)
        was_ready = False
        try:
            while not self._stop.is_set():
                child = self._children[number]
                if not await self._wait_for(child.wait()) or child is not self._children[number]:
                    continue  # stopped, or replaced
                was_ready = was_ready or child.was_ready.is_set()
                self._note_death(child, was_ready=was_ready)
                if time.monotonic() - child.started_at > STEADY_SECONDS:
                    backoff.reset()
                await self._start_after(child, backoff)
        finally:
            await self._end(self._children[number])

    async def _start_after(self, dead: ChildProcess, backoff: Backoff) -> None:
        """Start another child of this number, unless a rolling restart does so before."""
        child = None
        while child is None:
            await backoff.wait(self._stop)
            if self._stop.is_set() or self._children[dead.number] is not dead:
                return
            child = await self._try_start(dead.number)
        if self._children[dead.number] is dead:
            self._children[dead.number] = child
        else:
            await self._end(child)

    def _note_death(self, child: ChildProcess, *, was_ready: bool) -> None:
        """Count it. Raises CommandError unless a child of this number has been ready."""
        self._retire(child)
        close_all(self._listeners.pop(child.number, ()))
        if not was_ready:
            raise CommandError(f"process {child.number} failed to start; see its output above")
        CHILD_DEATHS.inc()
        log.error("supervisor.child_died", process=child.number, code=child.exit_code, what="starting another one")

    async def _restart_when_asked(self) -> None:
        while await self._wait_for(self._restart.wait()):
            self._restart.clear()
            log.info("supervisor.restarting", processes=self._plan.count)
            for number in range(1, self._plan.count + 1):
                if self._stop.is_set() or not await self._replace(number):
                    break
            else:
                log.info("supervisor.restarted", processes=self._plan.count)

    async def _replace(self, number: int) -> bool:
        """Start another child; once it is ready, end the old one. Else end the new one and return False."""
        child = await self._try_start(number)
        if child is None:
            return False
        spare = child
        try:
            is_ready = await self._wait_for(child.wait_until_ready(), READY_SECONDS) and child.was_ready.is_set()
            if is_ready:
                spare, self._children[number] = self._children[number], child
            elif not self._stop.is_set():
                what = (
                    "correct the cause, which is in its output, and send SIGHUP again; the old processes keep running"
                )
                log.error("supervisor.restart_failed", process=number, reason=child.not_ready_reason, what=what)
        finally:
            await self._end(spare)
        return is_ready

    async def _try_start(self, number: int) -> ChildProcess | None:
        """Start a child; if the system cannot, log the reason and return None."""
        try:
            return await self._start(number)
        except CommandError as exc:
            log.error("supervisor.start_failed", process=number, why=str(exc))  # noqa: TRY400 - the text is enough
            return None

    async def _start(self, number: int) -> ChildProcess:
        try:
            if number not in self._listeners:
                self._listeners[number] = join_port(self._reserved)
            descriptors = [listener.fileno() for listener in self._listeners[number]]
            child = await ChildProcess.start(self._plan.command, number, self._plan.count, descriptors)
        except OSError as exc:
            raise CommandError(
                f"the system cannot start process {number} ({exc.strerror or type(exc).__name__}): check that no "
                f"program uses its port, its memory, the limits of processes and open files, and {sys.executable}"
            ) from None
        self._running.add(child)
        log.info("supervisor.child_started", process=number, pid=child.pid)
        return child

    async def _end(self, child: ChildProcess) -> None:
        task = asyncio.current_task()
        is_hurried = self._stop.is_set() and task is not None and task.cancelling()  # two signals at the same moment
        try:
            await child.terminate(HURRY_SECONDS if is_hurried else self._kill_after)
        finally:
            self._retire(child)

    def _retire(self, child: ChildProcess) -> None:
        """Keep the counts of a child that has ended."""
        if child in self._running:
            self._running.remove(child)
            self.metrics.retire(child.report.families)

    async def _wait_for(self, condition: Coroutine[Any, Any, object], seconds: float | None = None) -> bool:
        """Return True when the condition comes true, and False at a stop, or after ``seconds``."""
        awaited, stopped = asyncio.ensure_future(condition), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([awaited, stopped], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return awaited.done() and not self._stop.is_set()
        finally:
            await cancel_and_wait([awaited, stopped])

    def _read_metrics(self) -> Iterator[Families]:
        yield [family for family in REGISTRY.collect() if family.name.startswith(OWN_METRICS)]
        for child in self._running:
            yield child.report.families
