"""Decides where entries are kept: on the stream while Redis confirms in time, else in the spool, else nowhere."""

import asyncio
from collections.abc import Sequence

from ingest.append.redis_writer import Shut, Way
from ingest.encoding import Packed
from ingest.spool.queue import Spool
from runtime.metrics import APPENDED, SPOOLED

LEAST_SHARE = 0.2  # of the budget is given to Redis even when entries have waited for all of it


class Keeper:
    """Keeps batches."""

    def __init__(self, way: Way, spool: Spool, budget_seconds: float) -> None:
        self._way = way
        self._spool = spool
        self._budget_seconds = budget_seconds

    @property
    def why_not(self) -> str | None:
        """Why nothing can be kept right now; None if something can."""
        return None if self._way.is_open else self._spool.why_not

    async def keep(self, batch: Sequence[Packed], arrived_at: float) -> None:
        """Return once all of the batch is kept; NotSpooled means that it is not, or that nobody can say.

        The first of the batch arrived at this time of the loop's clock;
        what Redis has not confirmed when the budget is over since then goes to the spool. It may have landed all the
        same, and then comes twice.
        """
        if self._way.is_open:
            left = arrived_at + self._budget_seconds - asyncio.get_running_loop().time()
            try:
                await self._way.append([array for _, array in batch], max(left, LEAST_SHARE * self._budget_seconds))
            except Shut:
                pass
            else:
                APPENDED.inc(len(batch))
                return
        await self._spool.put(batch)
        SPOOLED.labels(self._way.why_shut).inc(len(batch))
