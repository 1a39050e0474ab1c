"""Delayed retries: copies of entries that wait for their next attempt, and then move to the retry stream.

The settle script packs all fields of a copy into one member of a sorted set, as a MessagePack array, so the copy does
not depend on its stream. The score is the time at which the copy is due, by the server's clock.
"""

from collections.abc import Callable

from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.handlers.errors import LONGEST_DELAY_SECONDS
from worker.metrics import RETRIED

MOVED_AT_ONCE = 100
MOST_RETRIES = 2000
"""The retry stream takes up to this many entries; the others stay delayed."""

PROMOTE = read_script(__file__, "promote.lua")


class DelayedRetries:
    """Promotes the delayed retries of one group. Any number of workers may do this at the same time.

    ``count_waiting`` returns how many entries of the retry stream wait for others of their message (worker.order).
    """

    def __init__(self, group: GroupRef, count_waiting: Callable[[], int] = lambda: 0) -> None:
        self._count_waiting = count_waiting
        self._keys = [group.delayed, group.retry]
        self._promote = group.server.register_script(PROMOTE)
        self._retried = RETRIED.labels(group.name)

    async def promote(self) -> None:
        """Move due copies to the retry stream while it has room. Raises RedisError; the other copies stay delayed."""
        moved = MOVED_AT_ONCE
        while moved == MOVED_AT_ONCE:
            args = [MOVED_AT_ONCE, round(LONGEST_DELAY_SECONDS * 1000), MOST_RETRIES + self._count_waiting()]
            moved = await self._promote(keys=self._keys, args=args)
            self._retried.inc(moved)
