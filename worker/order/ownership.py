"""The owner of a shard in order mode: the one worker that handles the shard's entries for a group.

A key has the name of the owner's consumer, and the owner's heartbeat is its lease: another worker takes the shard only
once the heartbeat is gone or has not moved for ``Timing.dead`` of that worker's own clock. An owner that misses its
heartbeat for ``Timing.late`` starts no call; its late settlements are refused (worker.order.fence).

The shards are spread: with S shards and W live workers no worker takes or keeps more than S / W, rounded up.
"""

from collections.abc import Callable
from typing import Any

import structlog

from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat
from worker.metrics import SHARDS_OWNED

log = structlog.get_logger("order")

TAKE = read_script(__file__, "take_shard.lua")


class Ownership:
    """One worker's view of a shard's owner. The consumers of a group share ``owned``: the numbers of its shards."""

    def __init__(self, group: GroupRef, heartbeat: Heartbeat, owned: set[int], count_shards: Callable[[], int]) -> None:
        self._group = group
        self._heartbeat = heartbeat
        self._owned = owned
        self._count_shards = count_shards
        self._take = group.server.register_script(TAKE)
        self._gauge = SHARDS_OWNED.labels(group.name)

    @property
    def is_surplus(self) -> bool:
        """Whether this worker has more than its share, and this shard is the one to give away."""
        number = self._group.shard.number
        return number in self._owned and len(self._owned) > self._share and number == max(self._owned)

    async def take(self) -> bool:
        """Take the shard if it is free, and within this worker's share. Raises RedisError."""
        number = self._group.shard.number
        if len(self._owned) >= self._share:
            return False
        self._owned.add(number)  # first, because the consumers of other shards take theirs at the same time
        is_taken = False
        try:
            is_taken = await self._try_take()
        finally:
            if not is_taken:
                self._owned.discard(number)
        self._gauge.set(len(self._owned))
        return is_taken

    def forget(self) -> None:
        """Note that this worker does not own the shard any more."""
        self._owned.discard(self._group.shard.number)
        self._gauge.set(len(self._owned))

    async def _try_take(self) -> bool:
        owner: Any = await self._group.server.get(self._group.owner)
        counter = b"" if owner is None else self._heartbeat.find_counter_of_dead(owner)
        if counter is None:
            return False
        keys, args = [self._group.owner, self._group.alive], [self._heartbeat.consumer, owner or b"", counter]
        if not await self._take(keys=keys, args=args):
            return False
        before = None if owner is None else owner.decode(errors="backslashreplace")
        log.info("order.owner", group=self._group.name, shard=self._group.shard.number, before=before)
        return True

    @property
    def _share(self) -> int:
        return -(-self._count_shards() // max(1, self._heartbeat.alive))
