"""Group commit: all entries that wait at one moment are kept together, and each is answered when they are.

They are kept on the stream while Redis confirms in time, else in the spool, else nowhere.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from ingest.append.redis_writer import NotConfirmed, RedisWriter
from ingest.encoding import Packed, pack
from ingest.metrics import APPENDED, SPOOLED
from ingest.spool.errors import NotSpooled
from ingest.spool.queue import Spool
from stream.entry import Entry

BATCHES = 2  # in hand
BATCH_ENTRIES = 256
BATCH_BYTES = 4 * 1024 * 1024
WAITING_ENTRIES = 8192
LEAST_SHARE = 0.2  # of the budget is given to Redis even when entries have waited for all of it

Waiting = tuple[Packed, float, asyncio.Future[None]]
"""An entry as it is kept, when it arrived by the loop's clock, and what its sender waits for."""


class NotKept(Exception):  # noqa: N818 - named for what the caller must tell the provider
    """The entry is not kept, or nobody can say: the provider has to send it again."""


class Appender:
    """Keeps entries in batches, while ``run`` runs.

    Redis has ``budget_seconds`` to confirm a batch, from the arrival of its first entry. What it has not confirmed by
    then goes to the spool; it may have landed all the same, and then comes twice.
    """

    def __init__(self, writer: RedisWriter, spool: Spool, budget_seconds: float) -> None:
        self._writer = writer
        self._spool = spool
        self._budget_seconds = budget_seconds
        self._waiting: deque[Waiting] = deque()
        self._due = asyncio.Event()
        self._in_hand: list[Sequence[Waiting]] = []
        self._stopping = False
        self._loop = asyncio.get_running_loop()  # asked for at each request it would cost a system call

    @property
    def why_not(self) -> str | None:
        """Why entries are refused right now; None while they are taken."""
        if self._stopping:
            return "stopping"
        return None if self._writer.is_open else self._spool.why_not

    def append(self, entry: Entry) -> asyncio.Future[None]:
        """Keep the entry: the future is done once it is kept, or has NotKept; it may then be kept all the same.

        Raises NotKept if no more entries are taken.
        """
        if self._stopping:
            raise NotKept("stopping")
        if len(self._waiting) >= WAITING_ENTRIES:
            raise NotKept("too many entries are waiting")
        kept = self._loop.create_future()
        self._waiting.append((pack(entry), self._loop.time(), kept))
        self._set_due()
        return kept

    async def run(self) -> None:
        """Keep batch after batch, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(BATCHES):
                    tasks.create_task(self._run())
        finally:
            self._stopping = True
            self._refuse(self._waiting, "stopping")

    async def finish(self) -> None:
        """Take no more, and return when what waits is kept or refused."""
        self._stopping = True
        while waiting := [kept for batch in (*self._in_hand, self._waiting) for _, _, kept in batch]:
            await asyncio.wait(waiting)

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if not self._is_due:  # the other one was quicker
                continue
            batch = self._take()
            self._in_hand.append(batch)
            try:
                await self._keep(batch)
            finally:
                self._refuse(batch, "stopping")
                self._in_hand.remove(batch)
                self._set_due()

    @property
    def _is_due(self) -> bool:
        """Whether to keep a batch now: while one is in hand, only one as large, for large ones cost least."""
        return bool(self._waiting) and (not self._in_hand or len(self._waiting) >= len(self._in_hand[0]))

    def _set_due(self) -> None:
        if self._is_due:
            self._due.set()

    async def _keep(self, batch: Sequence[Waiting]) -> None:
        try:
            await self._write([packed for packed, _, _ in batch], batch[0][1])
        except NotSpooled as exc:
            self._refuse(batch, str(exc))
        else:
            for _, _, kept in batch:
                if not kept.done():
                    kept.set_result(None)

    async def _write(self, batch: Sequence[Packed], arrived_at: float) -> None:
        """Return once all of the batch is kept. Raises NotSpooled if it is not, or if nobody can say."""
        if self._writer.is_open:
            left = arrived_at + self._budget_seconds - self._loop.time()
            try:
                await self._writer.append([array for _, array in batch], max(left, LEAST_SHARE * self._budget_seconds))
            except NotConfirmed:
                pass
            else:
                APPENDED.inc(len(batch))
                return
        await self._spool.put(batch)
        SPOOLED.labels(self._writer.reason).inc(len(batch))

    def _take(self) -> list[Waiting]:
        size, count = 0, 0
        for (_, array), _, _ in islice(self._waiting, BATCH_ENTRIES):
            size += len(array)
            if count and size > BATCH_BYTES:
                break
            count += 1
        return [self._waiting.popleft() for _ in range(count)]

    @staticmethod
    def _refuse(batch: Iterable[Waiting], why: str) -> None:
        for _, _, kept in batch:
            if not kept.done():
                kept.set_exception(NotKept(why))
