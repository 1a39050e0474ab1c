"""The supervisor's side of a child: starts the process, asks it for reports, ends it.

A child that was ready and answers no more hangs: its event loop is blocked, or the process is stopped. It would keep
its connections for ever, so it is killed. Unanswered questions are counted, not seconds: after the whole machine was
stopped, no child counts as hanging.
"""

import asyncio
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Self

import structlog

from runtime.children.child import NOT_SERVING, Inheritance
from runtime.children.report import LONGEST_BYTES, ChildReport
from runtime.tasks import cancel_and_wait

log = structlog.get_logger("supervisor")

ASK_SECONDS = 1.0
"""The age of a report when the next one is asked for."""
SILENT_AFTER = 10
"""A child with this many unanswered questions is not ready."""
HANGS_AFTER = 30
"""A child with this many unanswered questions is killed."""
HURRY_SECONDS = 2.0
"""How long a child may take to end after a second signal."""


class ChildProcess:
    """A running child and its last report."""

    def __init__(
        self, number: int, process: Process, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    ) -> None:
        self.number = number
        self.report = ChildReport(NOT_SERVING, ())
        self.was_ready = asyncio.Event()
        self.started_at = time.monotonic()
        self._process = process
        self._reader, self._writer = streams
        self._unanswered = 0
        self._reading = asyncio.create_task(self._read(), name=f"reports of {number}")
        self._asking = asyncio.create_task(self._ask(), name=f"questions to {number}")

    @classmethod
    async def start(cls, command: Sequence[str], number: int, count: int, listeners: Sequence[int]) -> Self:
        """Start a child with the command and its inheritance.

        It has a session of its own: Ctrl-C reaches only the supervisor, which stops the children in order. Raises
        OSError.
        """
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as stack:
            stack.callback(ours.close)
            streams = await asyncio.open_unix_connection(sock=ours, limit=LONGEST_BYTES)
            stack.callback(streams[1].close)
            inheritance = Inheritance(number, count, theirs.fileno(), listeners)
            process = await asyncio.create_subprocess_exec(  # the last wait: asyncio kills it if this is cancelled
                *(sys.executable, "-P", *command, "--child", inheritance.to_option()),
                stdin=DEVNULL,
                pass_fds=inheritance.descriptors,
                start_new_session=True,
            )
            stack.pop_all()
        return cls(number, process, streams)

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.returncode

    @property
    def not_ready_reason(self) -> str | None:
        """The reason why it is not ready; None if it is."""
        if self.exit_code is not None:
            return "it has ended"
        return "it does not answer" if self._is_silent(SILENT_AFTER) else self.report.reason

    async def wait(self) -> int:
        """Return its exit code once it has ended and its last report is read."""
        code = await self._process.wait()
        await asyncio.wait([self._reading], timeout=ASK_SECONDS)
        await cancel_and_wait([self._reading, self._asking])
        self._writer.close()
        return code

    async def wait_until_ready(self) -> None:
        """Return once it has been ready, or has ended."""
        ended = asyncio.ensure_future(self.wait())
        ready = asyncio.ensure_future(self.was_ready.wait())
        try:
            await asyncio.wait([ended, ready], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait([ended, ready])

    async def terminate(self, seconds: float) -> None:
        """Ask it to stop; kill it after ``seconds``. If this is cancelled, it has HURRY_SECONDS to end."""
        ended = asyncio.ensure_future(self.wait())
        try:
            await self._end(ended, seconds)
        except asyncio.CancelledError:
            await self._end(ended, HURRY_SECONDS)
            raise

    async def _end(self, ended: "asyncio.Future[int]", seconds: float) -> None:
        with suppress(ProcessLookupError):
            self._process.terminate()
        done, _ = await asyncio.wait([ended], timeout=seconds)
        if not done:
            log.warning("supervisor.child_killed", process=self.number, pid=self.pid, after_seconds=seconds)
            with suppress(ProcessLookupError):
                self._process.kill()
            await asyncio.wait([ended])

    def _is_silent(self, questions: int) -> bool:
        """Whether it was ready, and has not answered this many questions since."""
        return self.was_ready.is_set() and self._unanswered >= questions

    async def _ask(self) -> None:
        """Ask for reports until none can come. Kill the child if it hangs."""
        with suppress(OSError):
            while not (self._reading.done() or self._is_silent(HANGS_AFTER)):
                self._unanswered += 1
                self._writer.write(b"\n")
                await self._writer.drain()
                await asyncio.sleep(ASK_SECONDS)
        if self._is_silent(HANGS_AFTER) and not self._reading.done():
            what = "killing it; look for code that blocks the event loop, or for a signal that stopped the process"
            log.error("supervisor.child_hangs", process=self.number, pid=self.pid, questions=HANGS_AFTER, what=what)
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _read(self) -> None:
        try:
            while (line := await self._reader.readline()).endswith(b"\n"):  # else killed in the middle of a line
                self.report = ChildReport.decode(line)
                self._unanswered = 0
                if self.report.reason is None:
                    self.was_ready.set()
        except OSError:
            return
        except (
            ValueError,
            KeyError,
            TypeError,
        ) as exc:  # of another version, after an upgrade without a restart of the supervisor
            what = "restart the whole command"
            log.warning("supervisor.report_unreadable", process=self.number, error=type(exc).__name__, what=what)
