"""Group commit: all entries that wait at one moment are kept together, and each is answered when they are."""

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import islice

from ingest.keeper import Keeper
from ingest.packed import Packed, pack
from ingest.spool_fault import NotSpooled
from stream.entry import Entry

BATCH_ENTRIES = 256
BATCH_BYTES = 4 * 1024 * 1024
WAITING_ENTRIES = 8192

Waiting = tuple[Packed, float, asyncio.Future[None]]
"""An entry as it is kept, when it arrived by the loop's clock, and what its sender waits for."""


class NotKept(Exception):  # noqa: N818 - named for what the caller must tell the provider
    """The entry is not kept, or nobody can say: the provider has to send it again."""


class Appender:
    """Keeps entries in batches, while ``run`` runs."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._waiting: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._in_hand: Sequence[Waiting] = ()
        self._stopping = False
        self._loop = asyncio.get_running_loop()  # asked for at each request it would cost a system call

    @property
    def why_not(self) -> str | None:
        """Why entries are refused right now; None while they are taken."""
        return "stopping" if self._stopping else self._keeper.why_not

    async def append(self, entry: Entry) -> None:
        """Return once the entry is kept. Raises NotKept; it may then be kept all the same."""
        if self._stopping:
            raise NotKept("stopping")
        if len(self._waiting) >= WAITING_ENTRIES:
            raise NotKept("too many entries are waiting")
        kept = self._loop.create_future()
        self._waiting.append((pack(entry), self._loop.time(), kept))
        self._arrived.set()
        await kept

    async def run(self) -> None:
        """Keep batch after batch, until cancelled."""
        try:
            while True:
                await self._arrived.wait()
                self._in_hand = self._take()
                await self._keep(self._in_hand)
                self._in_hand = ()
        finally:
            self._stopping = True
            self._refuse([*self._in_hand, *self._waiting], "stopping")

    async def finish(self) -> None:
        """Take no more, and return when what waits is kept or refused."""
        self._stopping = True
        while waiting := [*self._in_hand, *self._waiting]:
            await asyncio.wait([waiting[-1][2]])

    async def _keep(self, batch: Sequence[Waiting]) -> None:
        try:
            await self._keeper.keep([packed for packed, _, _ in batch], batch[0][1])
        except NotSpooled as exc:
            self._refuse(batch, str(exc))
        else:
            for _, _, kept in batch:
                if not kept.done():
                    kept.set_result(None)

    def _take(self) -> list[Waiting]:
        size, count = 0, 0
        for (_, array), _, _ in islice(self._waiting, BATCH_ENTRIES):
            size += len(array)
            if count and size > BATCH_BYTES:
                break
            count += 1
        batch = [self._waiting.popleft() for _ in range(count)]
        if not self._waiting:
            self._arrived.clear()
        return batch

    @staticmethod
    def _refuse(batch: Sequence[Waiting], why: str) -> None:
        for _, _, kept in batch:
            if not kept.done():
                kept.set_exception(NotKept(why))
