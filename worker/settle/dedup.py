"""Deduplication: an event that a group has handled is not handled again for some time when the provider repeats it.

The script that settles a handled event also marks it, by the server's clock, in one sorted set. Two copies that are in
flight at once may both be handled. Retries and replays are wanted, and are not asked about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard
from worker.events.event import StatusEvent

MARK_BYTES = 16  # the scripts cut them apart
ASKED_AT_ONCE = 1000  # Lua unpacks no more than 8,000 values

# KEYS: stream, marks. ARGV: group, '1' if the stream's entries are copies, how long (ms) and how many marks are kept,
# marks of the handled events in one string, ids. Marks are few bytes, so a full server takes them.
ACK_AND_MARK = """#!lua flags=allow-oom
redis.call('ZCARD', KEYS[2])
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 6))
if ARGV[2] == '1' then redis.call('XDEL', KEYS[1], unpack(ARGV, 6)) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local marks, n = {}, 0
for i = 1, #ARGV[5], 16 do
  marks[n + 1], marks[n + 2] = now, string.sub(ARGV[5], i, i + 15)
  n = n + 2
end
redis.call('ZADD', KEYS[2], unpack(marks))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -ARGV[4] - 1)
return redis.call('PEXPIRE', KEYS[2], ARGV[3])
"""

# KEYS: marks. ARGV: ms for which a mark holds, marks in one string. Returns the places, from 1, of those known. A mark
# of the future is one that was made before the server's clock stepped back.
KNOWN = """#!lua flags=allow-oom,no-writes
local time = redis.call('TIME')
local since = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local marks = {}
for i = 1, #ARGV[2], 16 do marks[#marks + 1] = string.sub(ARGV[2], i, i + 15) end
local places = {}
for i, at in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(marks))) do
  if at and tonumber(at) > since then places[#places + 1] = i end
end
return places
"""


@dataclass(frozen=True, slots=True)
class Memory:
    """For how long, and of how many events at most, a group remembers that it has handled them."""

    seconds: float
    entries: int


def mark(event: StatusEvent) -> bytes:
    """Return the bytes by which an event is remembered."""
    return bytes.fromhex(event.event_id[: 2 * MARK_BYTES])


class Dedup:
    """The events that one group has handled."""

    def __init__(self, server: Redis, shard: Shard, group: str, memory: Memory) -> None:
        self._keys = [shard.handled(group)]
        self._memory = memory
        self._known = server.register_script(KNOWN)

    async def find_handled(self, events: Sequence[StatusEvent], settling: frozenset[bytes] = frozenset()) -> list[int]:
        """Return the places of the events that were handled before, or whose mark is in ``settling``.

        Raises RedisError.
        """
        marks = [mark(event) for event in events]
        places = {place for place, one in enumerate(marks) if one in settling} if settling else set[int]()
        for start in range(0, len(marks), ASKED_AT_ONCE):
            asked = b"".join(marks[start : start + ASKED_AT_ONCE])
            found: Any = await self._known(keys=self._keys, args=[round(self._memory.seconds * 1000), asked])
            places |= {start + int(place) - 1 for place in found}
        return sorted(places)
