"""Runs the checks for the console in the background, one run at a time, and keeps the last report."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from console.doctor.runner import Doctor, DoctorReport
from console.doctor.setup import Setup
from runtime.tasks import cancel_and_wait

FRESH_SECONDS = 2.0
"""A report of this age is as good as a new one, so a program cannot keep the servers busy with checks."""


@dataclass(frozen=True, slots=True)
class CheckRun:
    """A run that has ended."""

    at: float
    """Its end, in Unix seconds."""
    by: str
    report: DoctorReport


Record = Callable[[CheckRun], Awaitable[None]]


class CheckBoard:
    """The last run, and the one that is under way."""

    def __init__(self) -> None:
        self.last: CheckRun | None = None
        self._doctor: Doctor | None = None
        self._task: asyncio.Task[CheckRun] | None = None

    @property
    def pending(self) -> list[str] | None:
        """The parts that are being checked; None while no run is under way."""
        return list(self._doctor.pending) if self._doctor is not None else None

    def start(self, make_setup: Callable[[], Setup], by: str, record: Record) -> "asyncio.Task[CheckRun]":
        """Start all checks and return their task, or return that of a run that is under way or has just ended.

        ``record`` is called once with the run that this call has started.
        """
        is_fresh = self.last is not None and time.time() - self.last.at < FRESH_SECONDS
        if self._task is None or (self._task.done() and not is_fresh):
            self._task = asyncio.create_task(self._run(Doctor(make_setup()), by, record))
        return self._task

    async def _run(self, doctor: Doctor, by: str, record: Record) -> CheckRun:
        self._doctor = doctor
        try:
            self.last = CheckRun(time.time(), by, await doctor.run())
        finally:
            self._doctor = None
        await record(self.last)
        return self.last

    async def close(self) -> None:
        """Cancel the run that is under way."""
        if self._task is not None:
            await cancel_and_wait([self._task])


@asynccontextmanager
async def open_board() -> AsyncIterator[CheckBoard]:
    """Yield a board without a run. At the end the run that is under way is cancelled."""
    board = CheckBoard()
    try:
        yield board
    finally:
        await board.close()
