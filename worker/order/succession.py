"""Claims what a new owner of a shard finds pending: the entries of all other consumers, in the order of their ids.

Later it only removes dead consumers, as the claimer does without order mode.
"""

from typing import Any

import structlog

from stream.redis.scripts import read_script
from worker.group.claim import MOST_CLAIMED, Claimer
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat, RawEntries
from worker.group.poison import KEPT_SECONDS, PoisonTracker
from worker.metrics import CLAIMED
from worker.order.fence import Fence
from worker.sources import Source

log = structlog.get_logger("order")

CLAIM = read_script(__file__, "claim_in_order.lua")


class Succession(Claimer):
    """The claimer of one group on one shard in order mode."""

    def __init__(self, group: GroupRef, heartbeat: Heartbeat, poison: PoisonTracker, fence: Fence) -> None:
        super().__init__(group, heartbeat, poison)
        self._claim_in_order = fence.register(CLAIM)
        self._positions: dict[Source, str] = {}

    def restart(self) -> None:
        """Look at all pending entries again: this worker has just become the owner."""
        self._positions = dict.fromkeys(Source, "-")

    async def claim(self, limit: int) -> dict[Source, RawEntries]:
        """Return the next claimed entries of one stream; empty once there are none. Raises RedisError, OwnershipLost.

        No new entry may be read before this returns nothing.
        """
        while self._positions:
            source, start = next(iter(self._positions.items()))
            args = [self._group, self._heartbeat.consumer, start, min(limit, MOST_CLAIMED), KEPT_SECONDS * 1000, source]
            keys = [self._streams[source], *self._keys[:2]]
            reply: Any = await self._claim_in_order(keys=keys, args=args)
            last, entries, counts = reply
            if last:
                self._positions[source] = f"({last.decode()}"
            else:
                del self._positions[source]
            if entries:
                self._poison.note_claim(source, [entry_id for entry_id, _ in entries], list(map(int, counts)))
                log.info("order.claimed", group=self._group, source=source, entries=len(entries))
                CLAIMED.labels(self._group).inc(len(entries))
                return {source: entries}
        return await super().claim(limit)
