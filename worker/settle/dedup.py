"""Recognising what the provider sends twice: an event that a group has handled is not handled again for some time.

What was handled is marked by the very script that settles it, by the server's clock, in one of two hashes. When that
one is half of what may be kept, or as old as marks are kept, the other one is emptied and takes its place: so nothing
has to be looked for to be forgotten. Two copies that are in hand at once may both be handled; retries and replays are
wanted, and are not asked about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard
from worker.events.event import StatusEvent

MARK_BYTES = 16  # the scripts cut them apart
ASKED_AT_ONCE = 1000  # Lua unpacks no more than 8,000 values

# KEYS: stream, both hashes. ARGV: group, '1' if the stream's entries are copies, how long (ms) and how many marks are
# kept, marks of what was handled in one string, ids. Marks are few bytes, so a full server takes them.
ACK_AND_MARK = """#!lua flags=allow-oom
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 6))
if ARGV[2] == '1' then redis.call('XDEL', KEYS[1], unpack(ARGV, 6)) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own, other = KEYS[2], KEYS[3]
local began = tonumber(redis.call('HGET', own, 'began') or 0)
local others = tonumber(redis.call('HGET', other, 'began') or 0)
if others > began then own, other, began = other, own, others end
local full = redis.call('HLEN', own) + #ARGV[5] / 16 > 1 + ARGV[4] / 2
if began == 0 or full or now - began >= tonumber(ARGV[3]) then
  own = began == 0 and own or other
  redis.call('UNLINK', own)
  redis.call('HSET', own, 'began', now)
  redis.call('PEXPIRE', own, 2 * ARGV[3])
end
local marks, n = {}, 0
for i = 1, #ARGV[5], 16 do
  marks[n + 1], marks[n + 2] = string.sub(ARGV[5], i, i + 15), now
  n = n + 2
end
return redis.call('HSET', own, unpack(marks))
"""

# KEYS: both hashes. ARGV: ms for which a mark holds, marks in one string. Returns the places, from 1, of those known.
KNOWN = """#!lua flags=allow-oom,no-writes
local time = redis.call('TIME')
local since = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local marks = {}
for i = 1, #ARGV[2], 16 do marks[#marks + 1] = string.sub(ARGV[2], i, i + 15) end
local ones, others = redis.call('HMGET', KEYS[1], unpack(marks)), redis.call('HMGET', KEYS[2], unpack(marks))
local places = {}
for i = 1, #marks do
  local at = ones[i] or others[i]
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
    """Return what an event is remembered by."""
    return bytes.fromhex(event.event_id[: 2 * MARK_BYTES])


class Repeats:
    """What one group has handled."""

    def __init__(self, server: Redis, shard: Shard, group: str, memory: Memory) -> None:
        self._keys = shard.handled(group)
        self._memory = memory
        self._known = server.register_script(KNOWN)

    async def among(self, events: Sequence[StatusEvent], handled: frozenset[bytes] = frozenset()) -> list[int]:
        """Return the places of those events that were handled before, or whose mark is in ``handled``.

        Raises RedisError.
        """
        marks = [mark(event) for event in events]
        places = set() if handled.isdisjoint(marks) else {place for place, one in enumerate(marks) if one in handled}
        for start in range(0, len(marks), ASKED_AT_ONCE):
            asked = b"".join(marks[start : start + ASKED_AT_ONCE])
            found: Any = await self._known(keys=self._keys, args=[round(self._memory.seconds * 1000), asked])
            places |= {start + int(place) - 1 for place in found}
        return sorted(places)
