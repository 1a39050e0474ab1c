"""Delayed retries: copies that wait for their next attempt, and the script that moves due ones to the retry stream.

The settle script packs a copy (as an array of MessagePack) into one member of a sorted set: whole, whatever happens to
the stream it came from. Its score is the moment at which it is due, by the server's clock.
"""

from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.handlers.errors import LONGEST_DELAY_SECONDS
from worker.metrics import RETRIED

MOVED_AT_ONCE = 100
MOST_RETRIES = 2000
"""The retry stream is filled up to so many entries; the rest stays delayed."""

PROMOTE = read_script(__file__, "promote.lua")


class DelayedRetries:
    """The delayed retries of one group. Any number of workers may promote them."""

    def __init__(self, group: GroupRef) -> None:
        self._keys = [group.delayed, group.retry]
        self._promote = group.server.register_script(PROMOTE)
        self._retried = RETRIED.labels(group.name)

    async def promote(self) -> None:
        """Move due entries to the retry stream, as far as it has room. Raises RedisError; the rest stays delayed."""
        moved = MOVED_AT_ONCE
        while moved == MOVED_AT_ONCE:
            args = [MOVED_AT_ONCE, round(LONGEST_DELAY_SECONDS * 1000), MOST_RETRIES]
            moved = await self._promote(keys=self._keys, args=args)
            self._retried.inc(moved)
