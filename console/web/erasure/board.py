"""Counts and erases the records of messages in the background, one message at a time.

A look walks through all places, which can take minutes, so no request waits for it.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from console.errors import explain
from console.privacy.eraser import Eraser, open_eraser, summarize
from console.privacy.selection import Selection, Subject
from console.privacy.settings import PrivacySettings
from console.web.access.audit import AuditLog
from console.web.access.roles import Identity
from runtime.errors import CommandError
from runtime.tasks import cancel_and_wait
from worker.store.database import DatabaseAway

MOST_JOBS = 10
FAILURES = (RedisError, SQLAlchemyError, DatabaseAway, CommandError, OSError, sqlite3.Error)
SHOWN_CHARACTERS = 8
"""Of an id in the audit log, and at most half of it: the whole id would be a trace of the person."""


class EraseState(StrEnum):
    """The state of a job."""

    COUNTING = "counting"
    COUNTED = "counted"
    ERASING = "erasing"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class EraseJob:
    """The records of one message: how many were found and erased in each place."""

    message_uuid: str
    state: EraseState = EraseState.COUNTING
    found: Counter[str] = field(default_factory=Counter)
    erased: Counter[str] = field(default_factory=Counter)
    unreachable: list[str] = field(default_factory=list)
    progress: str = ""
    fault: str = ""
    """Why nothing was erased, or why the work has ended."""

    @property
    def is_running(self) -> bool:
        """Whether it counts or erases now."""
        return self.state in (EraseState.COUNTING, EraseState.ERASING)

    def report(self, text: str) -> None:
        """Keep the newest progress."""
        self.progress = text


class ErasureBoard:
    """The jobs of a console. A person confirms the number that was found; if it has changed, nothing is erased."""

    def __init__(self, settings: PrivacySettings, audit: AuditLog) -> None:
        self._settings = settings
        self._audit = audit
        self._jobs: dict[str, EraseJob] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    def find(self, message_uuid: str) -> EraseJob | None:
        """Return the job of a message."""
        return self._jobs.get(message_uuid)

    def count(self, message_uuid: str) -> EraseJob:
        """Count the records of a message, unless its job is running. Raises CommandError if too many jobs are."""
        before = self._jobs.get(message_uuid)
        if before is not None and before.is_running:
            return before
        if len(self._jobs) >= MOST_JOBS:
            ended = next((job for job in self._jobs.values() if not job.is_running), None)
            if ended is None:
                raise CommandError(f"{MOST_JOBS} messages are being erased: wait for one of them")
            del self._jobs[ended.message_uuid]
        job = self._jobs[message_uuid] = EraseJob(message_uuid)
        self._start(job, self._count)
        return job

    def erase(self, message_uuid: str, identity: Identity, expected: int, why: str) -> EraseJob | None:
        """Erase a message that was counted; None if it is not, or if another number was found."""
        job = self._jobs.get(message_uuid)
        if job is None or job.state is not EraseState.COUNTED or job.found.total() != expected:
            return None
        job.state, job.fault = EraseState.ERASING, ""

        async def erase(eraser: Eraser, job: EraseJob) -> None:
            await self._erase(eraser, job, identity, why)

        self._start(job, erase)
        return job

    async def aclose(self) -> None:
        """End all work. An erasure that is interrupted can be repeated."""
        await cancel_and_wait(self._tasks)

    def _start(self, job: EraseJob, act: Callable[[Eraser, EraseJob], Awaitable[object]]) -> None:
        task = asyncio.create_task(self._run(job, act), name="erasure")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, job: EraseJob, act: Callable[[Eraser, EraseJob], Awaitable[object]]) -> None:
        try:
            async with self._turn, open_eraser(self._settings, job.report) as eraser:
                await act(eraser, job)
        except FAILURES as exc:
            job.fault = explain(exc) or type(exc).__name__
        finally:
            if job.is_running:
                job.state = EraseState.FAILED

    async def _count(self, eraser: Eraser, job: EraseJob) -> Selection:
        selection = await eraser.look(_subject_of(job))
        job.unreachable = []
        job.found = await eraser.count(selection, job.unreachable)
        job.state = EraseState.COUNTED
        return selection

    async def _erase(self, eraser: Eraser, job: EraseJob, identity: Identity, why: str) -> None:
        expected = job.found.total()
        selection = await self._count(eraser, job)
        if job.found.total() != expected:
            job.fault = f"Nothing was erased: there are {job.found.total():,} records now."
            return
        job.state, result = EraseState.ERASING, "interrupted: run it again"
        try:
            erasure = await eraser.erase(selection)
            job.erased, job.unreachable = erasure.erased, erasure.unreachable
            result = f"erased {summarize(erasure.erased)}; {len(erasure.unreachable)} places not reached"
        finally:
            await self._audit.record(
                identity,
                action="messages.erase",
                scope=f"message={job.message_uuid[: min(SHOWN_CHARACTERS, len(job.message_uuid) // 2)]}…",
                count=expected,
                why="erased" if selection.has_text(why) else why,
                result=result,
            )
        job.state = EraseState.DONE


def _subject_of(job: EraseJob) -> Subject:
    return Subject(messages=frozenset((job.message_uuid,)))


def describe_job(message_uuid: str, job: EraseJob | None) -> dict[str, Any]:
    """Return the job for JSON; without a job the state is ``new``."""
    shown = job or EraseJob(message_uuid)
    return {
        "message_uuid": message_uuid,
        "state": str(job.state) if job else "new",
        "number": shown.found.total(),
        "found": dict(shown.found),
        "erased": dict(shown.erased),
        "unreachable": list(shown.unreachable),
        "progress": shown.progress,
        "fault": shown.fault,
    }
