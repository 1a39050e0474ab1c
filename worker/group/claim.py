"""Claims: moves the entries of a dead consumer to this one, a bounded share at a time.

One script looks whether the consumer is still as dead as it was observed, moves the entries, and counts the claim for
each of them (worker.group.poison). So a reply that is lost loses no count.
"""

from typing import Any

import structlog
from redis.asyncio import Redis

from stream.keys import Shard
from worker.group.heartbeat import Liveness, RawEntries
from worker.group.poison import KEPT_SECONDS, PoisonTracker
from worker.metrics import CLAIMED
from worker.sources import Source, streams

log = structlog.get_logger("claim")

MOST_CLAIMED = 250  # of 128 KiB each they make a batch of 32 MiB

# KEYS: alive, poison, streams. ARGV: group, claimer, dead consumer, its counter as observed or '' (it has left in order
# and counts for nothing), most entries, ms until the poison hash expires, then the streams' names in that hash.
# nil: it is alive after all. Empty: nothing was left, the consumer is removed. Else the stream's place, its entries,
# and for each its claims and its deaths. An entry beside marked ones was not running: it is free of suspicion.
CLAIM = """#!lua flags=allow-oom
if (redis.call('HGET', KEYS[1], ARGV[3]) or '') ~= ARGV[4] then return false end
local died = ARGV[4] ~= ''
local marked = died and redis.call('HGET', KEYS[2], 'mark:' .. ARGV[3])
local function count(name)
  if died and marked and not string.find(marked, ' ' .. name .. ' ', 1, true) then
    redis.call('HDEL', KEYS[2], name, 'deaths:' .. name)
  elseif died then
    redis.call('HINCRBY', KEYS[2], name, 1)
    if marked == ' ' .. name .. ' ' then redis.call('HINCRBY', KEYS[2], 'deaths:' .. name, 1) end
  end
  local counts = redis.call('HMGET', KEYS[2], name, 'deaths:' .. name)
  return tonumber(counts[1] or '0'), tonumber(counts[2] or '0')
end
for k = 3, #KEYS do
  local pending = redis.call('XPENDING', KEYS[k], ARGV[1], '-', '+', ARGV[5], ARGV[3])
  if #pending > 0 then
    local ids, counts = {}, {}
    for i, entry in ipairs(pending) do ids[i] = entry[1] end
    local entries = redis.call('XCLAIM', KEYS[k], ARGV[1], ARGV[2], 0, unpack(ids))
    for i, entry in ipairs(entries) do
      counts[2 * i - 1], counts[2 * i] = count(ARGV[4 + k] .. ':' .. entry[1])
    end
    redis.call('PEXPIRE', KEYS[2], ARGV[6])
    return {k - 3, entries, counts}
  end
end
for k = 3, #KEYS do redis.call('XGROUP', 'DELCONSUMER', KEYS[k], ARGV[1], ARGV[3]) end
redis.call('HDEL', KEYS[1], ARGV[3])
redis.call('HDEL', KEYS[2], 'mark:' .. ARGV[3])
return {}
"""


class Claimer:
    """Claims entries of the dead consumers of one group."""

    def __init__(self, server: Redis, shard: Shard, group: str, liveness: Liveness, poison: PoisonTracker) -> None:
        self._group = group
        self._liveness = liveness
        self._poison = poison
        self._streams = streams(shard, group)
        self._keys = [shard.alive(group), shard.poison(group), *self._streams.values()]
        self._claim = server.register_script(CLAIM)

    async def claim(self, most: int) -> dict[Source, RawEntries]:
        """Claim at most ``most`` entries, and MOST_CLAIMED, of one stream from one dead consumer; empty without any.

        Raises RedisError.
        """
        while (dead := self._liveness.find_dead()) is not None:
            name, counter = dead
            args: list[str | bytes | int] = [self._group, self._liveness.consumer, name, counter]
            args += [min(most, MOST_CLAIMED), KEPT_SECONDS * 1000, *self._streams]
            taken: Any = await self._claim(keys=self._keys, args=args)
            if taken:
                place, entries, counts = taken
                source = list(self._streams)[place]
                self._poison.note_claim(source, [entry_id for entry_id, _ in entries], list(map(int, counts)))
                if not entries:  # deleted while they were pending: XCLAIM has dropped them
                    continue
                log.warning(
                    "liveness.claimed", group=self._group, dead=name.decode(), source=source, entries=len(entries)
                )
                CLAIMED.labels(self._group).inc(len(entries))
                return {source: entries}
            if taken is not None:
                log.info("liveness.removed", group=self._group, consumer=name.decode())
            self._liveness.forget_dead(name)
        return {}
