"""The spool: keeps on disk what Redis does not take, until it does.

All its files are SQLite's, with one connection each, and all work on them is done by one thread, in the order in which
it is asked for: a put never waits for more than one slice that is being drained.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import structlog

from ingest.encoding import Packed
from ingest.spool.errors import MEANINGS, NotSpooled
from ingest.spool.file_set import Held, Part, SpoolFiles
from ingest.spool.folder import SpoolFolder
from runtime.metrics import SPOOL_REFUSED, SPOOL_SECONDS

log = structlog.get_logger("spool")

ANSWER_SECONDS = 5.0
REFUSED_SECONDS = 5.0

P = ParamSpec("P")
T = TypeVar("T")


class Spool:
    """A queue that survives the process. Made by ``spooling``."""

    def __init__(self, files: SpoolFiles) -> None:
        self._files = files
        self._thread = ThreadPoolExecutor(1, "spool")
        self._late: asyncio.Future[Any] | None = None
        self._refused: NotSpooled | None = None
        self._refused_at = 0.0

    @property
    def held(self) -> Held:
        """What is in it."""
        return self._files.held

    @property
    def why_not(self) -> str | None:
        """Why nothing can be put into it right now; None if something can."""
        if self._late is not None and not self._late.done():
            return MEANINGS["stuck"]
        if self._refused is not None and time.monotonic() - self._refused_at < REFUSED_SECONDS:
            return str(self._refused)
        why = self._files.why_not()
        return None if why is None else MEANINGS[why]

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

    async def read(self, most_entries: int) -> Part | None:
        """Return the oldest entries, or None. Raises NotSpooled if the disk does not answer."""
        return await self._do(self._files.read, most_entries)

    async def confirm(self, part: Part) -> None:
        """Forget entries that Redis has confirmed. Raises NotSpooled if the disk does not answer."""
        await self._do(self._files.confirm, part)

    async def take_over(self) -> None:
        """Take over what dead processes have left. Raises NotSpooled if the disk does not answer."""
        await self._do(self._files.take_over)

    async def open(self) -> None:
        """Find what was left, and make ready for more; however long it takes."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._files.open)

    async def close(self) -> None:
        """Close it, unless its disk does not answer."""
        try:
            await self._do(self._files.close)
        except NotSpooled as exc:
            log.warning("spool.not_closed", why=exc.why)
        if self.held.entries:
            log.warning("spool.left", entries=self.held.entries, what="drained at the next start")
        self._thread.shutdown(wait=False)

    async def _do(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._late is not None and not self._late.done():
            raise NotSpooled("stuck")
        job_done = asyncio.get_running_loop().run_in_executor(self._thread, lambda: job(*args, **kwargs))
        done, _ = await asyncio.wait([job_done], timeout=ANSWER_SECONDS)
        if not done:
            self._late = job_done
            job_done.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody else looks
            raise NotSpooled("stuck")
        return job_done.result()


@asynccontextmanager
async def spooling(data: Path, limit_bytes: int) -> AsyncIterator[Spool]:
    """Open the spool in the data folder for the length of the block. Raises Refusal if there can be none."""
    spool = Spool(SpoolFiles(SpoolFolder.claim(data), limit_bytes))
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()
