"""Group commit: waiting entries are stored in batches, and each request is answered once its batch is stored.

A batch goes to the stream if Redis confirms it in time, else to the spool. If both fail, its requests get an error.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol

from ingest.append.redis_writer import NotConfirmed
from ingest.encoding import Packed, pack
from ingest.metrics import APPENDED, SPOOLED
from ingest.spool.errors import NotSpooled
from ingest.spool.queue import Spool
from stream.entry import Entry

BATCHES = 2  # in flight
BATCH_ENTRIES = 256
BATCH_BYTES = 4 * 1024 * 1024
WAITING_ENTRIES = 8192
MIN_SHARE = 0.2  # of the time budget is left for Redis, even for entries that waited longer than the budget

Waiting = tuple[Packed, float, asyncio.Future[None]]
"""A packed entry, its arrival time by the loop's clock, and the future of its request."""


class AppendPath(Protocol):
    """What an appender appends to: a server, a cluster or one of its shards."""

    @property
    def is_open(self) -> bool:
        """Whether entries may be sent to it."""

    @property
    def reason(self) -> str:
        """The name of the fault that closed it, for metrics."""

    async def append(self, batch: Sequence[bytes], within_seconds: float) -> None:
        """Return once the batch is confirmed. Raises NotConfirmed."""


class NotStored(Exception):  # noqa: N818 - named for the outcome
    """The entry is not stored, or its state is unknown: the provider has to send it again."""


class Appender:
    """Stores entries in batches while ``run`` runs.

    Redis has ``budget_seconds`` to confirm a batch, counted from the arrival of its first entry. After that the batch
    goes to the spool. Redis may have appended it anyway; its entries are then on the stream twice.
    """

    def __init__(self, writer: AppendPath, spool: Spool, budget_seconds: float, batches: int = BATCHES) -> None:
        """``batches`` is how many may be in flight."""
        self._batches = batches
        self._writer = writer
        self._spool = spool
        self._budget_seconds = budget_seconds
        self._waiting: deque[Waiting] = deque()
        self._due = asyncio.Event()
        self._in_flight: list[Sequence[Waiting]] = []
        self._stopping = False
        self._loop = asyncio.get_running_loop()  # get_running_loop() per request would cost a system call

    @property
    def not_ready_reason(self) -> str | None:
        """The reason why entries are refused now; None while they are accepted."""
        if self._stopping:
            return "stopping"
        return None if self._writer.is_open else self._spool.not_ready_reason

    def append(self, entry: Entry) -> asyncio.Future[None]:
        """Queue the entry. The future is done once the entry is stored, or raises NotStored, with unknown outcome.

        Raises NotStored if no more entries are accepted.
        """
        if self._stopping:
            raise NotStored("stopping")
        if len(self._waiting) >= WAITING_ENTRIES:
            raise NotStored("too many entries are waiting")
        future = self._loop.create_future()
        self._waiting.append((pack(entry), self._loop.time(), future))
        self._set_due()
        return future

    async def run(self) -> None:
        """Store batch after batch until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._batches):
                    tasks.create_task(self._run())
        finally:
            self._stopping = True
            self._refuse(self._waiting, "stopping")

    async def finish(self) -> None:
        """Accept no more entries, and return when all waiting ones are stored or refused."""
        self._stopping = True
        while futures := [future for batch in (*self._in_flight, self._waiting) for _, _, future in batch]:
            await asyncio.wait(futures)

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if not self._is_due:  # the other runner took the batch
                continue
            batch = self._take()
            self._in_flight.append(batch)
            try:
                await self._store(batch)
            finally:
                self._refuse(batch, "stopping")
                self._in_flight.remove(batch)
                self._set_due()

    @property
    def _is_due(self) -> bool:
        """Whether to send a batch now. While one is in flight, the next must be as large: large ones cost less."""
        return bool(self._waiting) and (not self._in_flight or len(self._waiting) >= len(self._in_flight[0]))

    def _set_due(self) -> None:
        if self._is_due:
            self._due.set()

    async def _store(self, batch: Sequence[Waiting]) -> None:
        try:
            await self._write(batch)
        except NotSpooled as exc:
            self._refuse(batch, str(exc))
        else:
            for _, _, future in batch:
                if not future.done():
                    future.set_result(None)

    async def _write(self, batch: Sequence[Waiting]) -> None:
        """Return once the whole batch is stored. Raises NotSpooled if it is not, or if its state is unknown."""
        if self._writer.is_open:
            _, arrived_at, _ = batch[0]
            remaining = arrived_at + self._budget_seconds - self._loop.time()
            within_seconds = max(remaining, MIN_SHARE * self._budget_seconds)
            try:
                await self._writer.append([array for (_, array), _, _ in batch], within_seconds)
            except NotConfirmed:
                pass
            else:
                APPENDED.inc(len(batch))
                return
        await self._spool.put([packed for packed, _, _ in batch])
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
        for _, _, future in batch:
            if not future.done():
                future.set_exception(NotStored(why))
