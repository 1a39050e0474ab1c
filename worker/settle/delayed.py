"""Copies that wait for their next attempt, and the script that moves those that are due to the group's retry stream.

A copy is packed (by worker.settle, as an array of MessagePack) into one member of a sorted set: whole, whatever becomes
of the stream it came from. Its score is the moment at which it is due, on the server's clock.
"""

from redis.asyncio import Redis

from runtime.metrics import RETRIED
from stream.keys import Shard

MOVED_AT_ONCE = 100

# KEYS: parked, retry stream. ARGV: how many at most. All or nothing; refused whole on a full server.
PROMOTE = """#!lua
redis.call('XLEN', KEYS[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, copy in ipairs(due) do
  redis.call('XADD', KEYS[2], '*', unpack(cmsgpack.unpack(copy)))
  redis.call('ZREM', KEYS[1], copy)
end
return #due
"""


class Parked:
    """The parked copies of one group. Any number of workers may move them."""

    def __init__(self, server: Redis, shard: Shard, group: str) -> None:
        self._keys = [shard.parked(group), shard.retry(group)]
        self._promote = server.register_script(PROMOTE)
        self._retried = RETRIED.labels(group)

    async def promote(self) -> None:
        """Move what is due to the retry stream. Raises RedisError; then the rest stays parked."""
        moved = MOVED_AT_ONCE
        while moved == MOVED_AT_ONCE:
            moved = await self._promote(keys=self._keys, args=[MOVED_AT_ONCE])
            self._retried.inc(moved)
