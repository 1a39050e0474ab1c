"""The spool: a queue on the local disk for entries that Redis does not accept.

Each file is a SQLite database with one connection. One thread does all work on the files, in the order of the requests,
so a ``put`` waits for at most one slice that is being drained. The event loop never touches the disk. The thread is a
daemon, so a disk that does not answer cannot keep the process alive.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

import structlog

from ingest.encoding import Packed
from ingest.metrics import SPOOL_REFUSED, SPOOL_SECONDS
from ingest.spool.errors import MEANINGS, NotSpooled, Why
from ingest.spool.file import Chunk
from ingest.spool.file_set import SpoolFiles
from ingest.spool.folder import Owner
from ingest.spool.record import Held

log = structlog.get_logger("spool")

ANSWER_SECONDS = 5.0
REFUSED_SECONDS = 5.0  # for this time after a failed put the spool is not ready

P = ParamSpec("P")
T = TypeVar("T")


class DiskThread:
    """Runs jobs one after the other in its own thread."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        Thread(target=self._run, name="spool", daemon=True).start()

    def submit(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a job; the future gets its result."""
        result: Future[T] = Future()
        self._jobs.put((job, result))
        return asyncio.wrap_future(result)

    def end(self) -> None:
        """End the thread after the queued jobs."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (queued := self._jobs.get()) is not None:
            job, result = queued
            if not result.set_running_or_notify_cancel():
                continue
            try:
                result.set_result(job())
            except BaseException as exc:  # noqa: BLE001 - the caller awaits the future and handles it
                result.set_exception(exc)


class Spool:
    """A queue that survives the process. Opened by ``open_spool``."""

    def __init__(self, files: SpoolFiles) -> None:
        self._files = files
        self._thread = DiskThread()
        self._late: asyncio.Future[Any] | None = None
        self._refused: NotSpooled | None = None
        self._refused_at = 0.0
        self._shortage: Why | None = None

    @property
    def held(self) -> Held:
        """The content of the spool."""
        return self._files.held

    @property
    def is_empty(self) -> bool:
        """Whether all folders of the spool are empty, including those of other owners."""
        return not self._files.held.entries and not self._files.foreign_entries

    @property
    def not_ready_reason(self) -> str | None:
        """The reason why the spool could not store entries at its last check; None if it could."""
        if self._late is not None and not self._late.done():
            return MEANINGS["stuck"]
        if self._refused is not None and time.monotonic() - self._refused_at < REFUSED_SECONDS:
            return str(self._refused)
        return None if self._shortage is None else MEANINGS[self._shortage]

    async def refresh(self) -> None:
        """Check whether the spool has lost files or can store entries, and update ``not_ready_reason``."""
        try:
            self._shortage = await self._do(self._files.check)
        except NotSpooled:
            return

    async def bind(self, identify: Callable[[str], Awaitable[str | None]]) -> None:
        """Ask Redis for its server id, and drain the entries of that server from now on.

        ``identify`` gets an id for a server without one, and returns the server's id; None changes nothing. Raises the
        errors of ``identify``, and NotSpooled if the disk does not answer.
        """
        server = await identify(await self._do(self._files.propose_id))
        if server is not None:
            await self._do(self._files.bind, server)

    async def put(self, entries: Sequence[Packed]) -> None:
        """Return when the entries are on the disk. Raises NotSpooled."""
        started_at = time.perf_counter()
        try:
            await self._do(self._files.put, entries)
        except NotSpooled as exc:
            self._refused, self._refused_at = exc, time.monotonic()
            SPOOL_REFUSED.labels(exc.why).inc(len(entries))
            raise
        self._refused = None
        SPOOL_SECONDS.observe(time.perf_counter() - started_at)

    async def read(self, max_entries: int) -> Chunk | None:
        """Return the oldest entries, or None. Raises NotSpooled if the disk does not answer."""
        return await self._do(self._files.read, max_entries)

    async def confirm(self, part: Chunk) -> None:
        """Mark entries as confirmed by Redis. Raises NotSpooled if the disk does not answer."""
        await self._do(self._files.confirm, part)

    async def take_over(self) -> None:
        """Take over folders of dead processes. Raises NotSpooled if the disk does not answer."""
        await self._do(self._files.take_over)

    async def open(self) -> None:
        """Inspect the files of earlier processes and prepare a new one, without a time limit."""
        await self._thread.submit(self._files.open)
        await self.refresh()

    async def close(self) -> None:
        """Close the files, and give up if the disk does not answer."""
        try:
            await self._do(self._files.close)
        except NotSpooled as exc:
            log.warning("spool.not_closed", why=exc.why)
        if self.held.entries:
            log.warning("spool.left", entries=self.held.entries, what="drained at the next start")
        self._thread.end()

    async def _do(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._late is not None and not self._late.done():
            raise NotSpooled("stuck")
        result = self._thread.submit(lambda: job(*args, **kwargs))
        finished, _ = await asyncio.wait([result], timeout=ANSWER_SECONDS)
        if not finished:
            self._late = result
            result.add_done_callback(lambda late: late.cancelled() or late.exception())  # mark the error as retrieved
            raise NotSpooled("stuck")
        return result.result()


@asynccontextmanager
async def open_spool(data: Path, owner: Owner, limit_bytes: int) -> AsyncIterator[Spool]:
    """Open the spool in the data folder until the block ends. Raises CommandError if it cannot be opened."""
    spool = Spool(SpoolFiles(data, owner, limit_bytes))
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()
