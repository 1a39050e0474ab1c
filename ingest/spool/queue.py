"""The spool: keeps on disk what Redis does not take, until it does.

All its files are SQLite's, with one connection each, and all work on them is done by one thread, in the order in which
it is asked for: a put never waits for more than one slice that is being drained. The event loop never touches the
disk, and a disk that does not answer does not keep the process alive: the thread is a daemon.
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
from ingest.spool.file_set import Chunk, Held, SpoolFiles
from ingest.spool.folder import Owner

log = structlog.get_logger("spool")

ANSWER_SECONDS = 5.0
REFUSED_SECONDS = 5.0

P = ParamSpec("P")
T = TypeVar("T")


class DiskThread:
    """Runs jobs one after the other, away from the event loop."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        Thread(target=self._run, name="spool", daemon=True).start()

    def submit(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a job; the future has its result."""
        done: Future[T] = Future()
        self._jobs.put((job, done))
        return asyncio.wrap_future(done)

    def end(self) -> None:
        """End the thread after the jobs that wait."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (queued := self._jobs.get()) is not None:
            job, done = queued
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(job())
            except BaseException as exc:  # noqa: BLE001 - whoever awaits it decides
                done.set_exception(exc)


class Spool:
    """A queue that survives the process. Opened by ``open_spool``."""

    def __init__(self, files: SpoolFiles) -> None:
        self._files = files
        self._thread = DiskThread()
        self._late: asyncio.Future[Any] | None = None
        self._refused: NotSpooled | None = None
        self._refused_at = 0.0
        self._no_room: Why | None = None

    @property
    def held(self) -> Held:
        """What is in it."""
        return self._files.held

    @property
    def is_empty(self) -> bool:
        """Whether no folder of the spool has entries, whoever they belong to."""
        return not self._files.held.entries and not self._files.foreign_entries

    @property
    def why_not(self) -> str | None:
        """Why nothing could be put into it when it was last looked at; None if something could."""
        if self._late is not None and not self._late.done():
            return MEANINGS["stuck"]
        if self._refused is not None and time.monotonic() - self._refused_at < REFUSED_SECONDS:
            return str(self._refused)
        return None if self._no_room is None else MEANINGS[self._no_room]

    async def look(self) -> None:
        """Find out whether something can be put into it; ``why_not`` tells."""
        try:
            self._no_room = await self._do(self._files.why_not)
        except NotSpooled:
            return

    async def bind(self, identify: Callable[[str], Awaitable[str | None]]) -> None:
        """Ask Redis which server it is, and drain what belongs to it from now on.

        ``identify`` is given an id for a server that has none, and returns the server's; None leaves all as it is.
        Raises what it raises, and NotSpooled if the disk does not answer.
        """
        server = await identify(await self._do(self._files.proposed_id))
        if server is not None:
            await self._do(self._files.bind, server)

    async def put(self, entries: Sequence[Packed]) -> None:
        """Return when the entries are on the disk. Raises NotSpooled."""
        began = time.perf_counter()
        try:
            await self._do(self._files.put, entries)
        except NotSpooled as exc:
            self._refused, self._refused_at = exc, time.monotonic()
            SPOOL_REFUSED.labels(exc.why).inc(len(entries))
            raise
        self._refused = None
        SPOOL_SECONDS.observe(time.perf_counter() - began)

    async def read(self, most_entries: int) -> Chunk | None:
        """Return the oldest entries, or None. Raises NotSpooled if the disk does not answer."""
        return await self._do(self._files.read, most_entries)

    async def confirm(self, part: Chunk) -> None:
        """Forget entries that Redis has confirmed. Raises NotSpooled if the disk does not answer."""
        await self._do(self._files.confirm, part)

    async def take_over(self) -> None:
        """Take over what dead processes have left. Raises NotSpooled if the disk does not answer."""
        await self._do(self._files.take_over)

    async def open(self) -> None:
        """Find what was left, and make ready for more; however long it takes."""
        await self._thread.submit(self._files.open)
        await self.look()

    async def close(self) -> None:
        """Close it, unless its disk does not answer."""
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
        job_done = self._thread.submit(lambda: job(*args, **kwargs))
        done, _ = await asyncio.wait([job_done], timeout=ANSWER_SECONDS)
        if not done:
            self._late = job_done
            job_done.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody else looks
            raise NotSpooled("stuck")
        return job_done.result()


@asynccontextmanager
async def open_spool(data: Path, owner: Owner, limit_bytes: int) -> AsyncIterator[Spool]:
    """Open the spool in the data folder for the length of the block. Raises Refusal if there can be none."""
    spool = Spool(SpoolFiles(data, owner, limit_bytes))
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()
