"""The ledger: every entry that has left the stream is accounted for, or it is missing and somebody has to know.

The server counts what was ever added. What is no longer there went by the trimmer, which writes it down in the script
that removes it, or by other hands: an XTRIM or XDEL, an eviction, a stream deleted, a server that came back without
its last entries. A group that had not settled those has lost them.
"""

from dataclasses import dataclass

from redis.asyncio import Redis

from stream.keys import Shard

# KEYS: stream, ledger. The ledger holds `gone`, how many entries are accounted for, and what the stream had at the last
# look: its length, and how many were ever added. If fewer are now, it was made again, and all that it held is missing.
BALANCE = """#!lua flags=allow-oom
local function map(flat)
  local found = {}
  for i = 1, #flat, 2 do found[flat[i]] = tonumber(flat[i + 1]) end
  return found
end
local stream = {length = 0, ['entries-added'] = 0}
if redis.call('EXISTS', KEYS[1]) == 1 then stream = map(redis.call('XINFO', 'STREAM', KEYS[1])) end
local length, added = stream.length, stream['entries-added']
local seen = map(redis.call('HGETALL', KEYS[2]))
local missing = 0
if seen.added and added < seen.added then
  missing = seen.length
elseif seen.added then
  missing = math.max(added - length - seen.gone, 0)
end
redis.call('HSET', KEYS[2], 'gone', added - length, 'length', length, 'added', added)
return {missing, length, added}
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """The stream at a look: its length, and how many entries it had ever had."""

    length: int
    added: int


class Ledger:
    """Watches one shard. Only one process at a time may look, or they would tell of the same entries."""

    def __init__(self, server: Redis, shard: Shard) -> None:
        self._shard = shard
        self._balance = server.register_script(BALANCE)
        self._seen: Seen | None = None

    async def missing(self) -> int:
        """Return how many entries left the stream since anybody last looked, and not by the trimmer. Raises RedisError.

        What a server has forgotten together with its ledger is missed only by the process that had seen it.
        """
        missing, length, added = map(int, await self._balance(keys=[self._shard.stream, self._shard.ledger]))
        before, self._seen = self._seen, Seen(length, added)
        if before is None or added >= before.added:
            return missing
        return max(missing, min(before.added - added, before.length))

    def forget(self) -> None:
        """Another process may look from now on."""
        self._seen = None
