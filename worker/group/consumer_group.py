"""A consumer group: registered, made again where it belongs when it is gone, its progress noted.

A group that is missing (FLUSHALL, a fail-over, an operator's slip) is made again at its checkpoint, so that nothing it
has not settled is passed by; if the stream is younger than the checkpoint, at its beginning. Never at its end. A group
that stands beyond the last entry of its stream would pass by what comes next without an error: it is put back likewise.

Each of both is one script, so nothing can happen to the stream between question and act. A full server runs them too.
A group that an operator moves within the stream (XGROUP SETID) is left where it was put.
"""

from typing import Any

import structlog
from redis.asyncio import Redis

from stream.keys import Shard
from stream.redis.errors import GroupGone
from worker.sources import streams

log = structlog.get_logger("group")

# Ids are compared as text, for Lua's numbers end at 2^53; before an id of that size stands one that is early enough.
_COMMON = """#!lua flags=allow-oom
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-?(%d*)$')
  return ms, seq == '' and '0' or seq
end
local function greater(a, b)
  return #a > #b or (#a == #b and a > b)
end
local function beyond(a, b)
  local a_ms, a_seq = parts(a)
  local b_ms, b_seq = parts(b)
  if a_ms ~= b_ms then return greater(a_ms, b_ms) end
  return greater(a_seq, b_seq)
end
local function less(number)
  return #number < 16 and string.format('%.0f', tonumber(number) - 1) or '0'
end
local function before(id)
  local ms, seq = parts(id)
  if seq ~= '0' then return ms .. '-' .. less(seq) end
  return ms == '0' and '0-0' or less(ms) .. '-18446744073709551615'
end
local function value(pairs, name)
  for i = 1, #pairs, 2 do
    if pairs[i] == name then return pairs[i + 1] end
  end
end
local function last_of(stream)
  local info = redis.pcall('XINFO', 'STREAM', stream)
  if not info.err then return value(info, 'last-generated-id') end
  if not string.find(info.err, 'no such key') then error(info) end
end
local function delivered_to(stream, group)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    if value(info, 'name') == group then return value(info, 'last-delivered-id') end
  end
end
"""

# KEYS: stream, groups, checkpoint if there is one. ARGV: group. Returns where the group was made or put; false if it
# stands right.
ENSURE = (
    _COMMON
    + """
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then redis.call('SADD', KEYS[2], ARGV[1]) end
local last = last_of(KEYS[1])
local delivered = last and delivered_to(KEYS[1], ARGV[1])
if delivered and not beyond(delivered, last) then return false end
local start = KEYS[3] and redis.call('GET', KEYS[3])
if not (start and last) or beyond(start, last) then start = '0' end
if delivered then
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], start)
else
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], start, 'MKSTREAM')
end
return start
"""
)

# KEYS: stream, checkpoint. ARGV: group. Returns false if the group is missing or beyond its stream: nothing is noted.
NOTE = (
    _COMMON
    + """
local last = last_of(KEYS[1])
local delivered = last and delivered_to(KEYS[1], ARGV[1])
if not delivered or beyond(delivered, last) then return false end
local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
local checkpoint = pending[1] > 0 and before(pending[2]) or delivered
if redis.call('GET', KEYS[2]) ~= checkpoint then redis.call('SET', KEYS[2], checkpoint) end
return checkpoint
"""
)


class Group:
    """One consumer group of one shard."""

    def __init__(self, server: Redis, shard: Shard, name: str) -> None:
        self.shard = shard
        self.name = name
        self._ensure = server.register_script(ENSURE)
        self._note = server.register_script(NOTE)

    async def ensure(self) -> None:
        """Register the group, make it if it is missing, put it back if it is beyond its stream. Raises RedisError.

        Likewise on the streams of its copies, which have no checkpoint.
        """
        checkpoint = self.shard.checkpoint(self.name)
        for stream in streams(self.shard, self.name).values():
            keys = [stream, self.shard.groups, *([checkpoint] if stream == self.shard.stream else [])]
            start = await self._ensure(keys=keys, args=[self.name])
            if start is not None:
                made = "group.made" if stream == self.shard.stream else "group.made_for_copies"
                log.info(made, group=self.name, stream=stream, start=start.decode())

    async def save_checkpoint(self) -> None:
        """Note the id up to which everything is settled. One that is stale costs repeats only.

        Raises GroupGone, and notes nothing, if the group is missing or beyond its stream; and RedisError.
        """
        if await self._note(keys=[self.shard.stream, self.shard.checkpoint(self.name)], args=[self.name]) is None:
            raise GroupGone


async def registered(server: Redis, shard: Shard) -> list[str]:
    """Return the names of the shard's groups, whether or not they exist right now. Raises RedisError."""
    names: Any = await server.smembers(shard.groups)
    return sorted(name.decode() for name in names)
