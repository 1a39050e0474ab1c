"""Recognising what the provider sends twice: an event that a group has handled is not handled again for some time.

What was handled is marked by the very script that settles it (worker.settle), in a sorted set of the group, by the
server's clock; what is older than the time goes, and of the rest the oldest beyond a number. Two copies that are in
hand at once may both be handled; retries and replays are wanted, and are not asked about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard
from worker.status import StatusEvent

MARK_BYTES = 16  # the scripts cut them apart
ASKED_AT_ONCE = 1000  # Lua unpacks no more than 8,000 values

# KEYS: handled. ARGV: ms for which a mark holds, marks in one string. Returns the places, from 1, of those that it has.
KNOWN = """#!lua flags=allow-oom,no-writes
local time = redis.call('TIME')
local since = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local marks = {}
for i = 1, #ARGV[2], 16 do marks[#marks + 1] = string.sub(ARGV[2], i, i + 15) end
local places = {}
for i, score in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(marks))) do
  if score and tonumber(score) > since then places[#places + 1] = i end
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
        self._key = shard.handled(group)
        self._memory = memory
        self._known = server.register_script(KNOWN)

    async def among(self, events: Sequence[StatusEvent]) -> list[int]:
        """Return the places of those events that were handled before. Raises RedisError."""
        places: list[int] = []
        for start in range(0, len(events), ASKED_AT_ONCE):
            marks = b"".join(map(mark, events[start : start + ASKED_AT_ONCE]))
            found: Any = await self._known(keys=[self._key], args=[round(self._memory.seconds * 1000), marks])
            places += [start + int(place) - 1 for place in found]
        return places
