"""Settling: what ends an entry for a group. It is the last step of every batch.

To ack is one XACK, which a full server takes too. To bury is one script, all or nothing for each entry: the copy is
written first, and taken back if the entry was no longer pending, so a late or repeated burial changes nothing and an
error in the middle leaves the entry pending.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from redis.asyncio import Redis

from stream.keys import Shard

MOST_FIELDS = 1000  # of a dead letter: a script cannot hand on more than some thousand values; ingest writes ten

# KEYS: stream, dead. ARGV: group, then for each entry its id, the number of field names and values, then these.
BURY = """
local i, buried = 2, 0
while i <= #ARGV do
  local n = tonumber(ARGV[i + 1])
  local copy = redis.call('XADD', KEYS[2], '*', unpack(ARGV, i + 2, i + 1 + n))
  if redis.call('XACK', KEYS[1], ARGV[1], ARGV[i]) == 1 then
    buried = buried + 1
  else
    redis.call('XDEL', KEYS[2], copy)
  end
  i = i + 2 + n
end
return buried
"""


@dataclass(frozen=True, slots=True)
class Burial:
    """An entry to give up: its id in Redis's form, its fields as they were read, and why."""

    entry_id: bytes
    fields: dict[bytes, bytes]
    reason: str
    error: str


class Settler:
    """Settles entries of one group."""

    def __init__(self, server: Redis, shard: Shard, group: str) -> None:
        self._server = server
        self._shard = shard
        self._group = group
        self._bury = server.register_script(BURY)

    async def ack(self, entry_ids: Sequence[bytes]) -> None:
        """End these entries. Raises RedisError; then it is unknown which are ended."""
        await self._server.xack(self._shard.stream, self._group, *entry_ids)

    async def bury(self, burials: Sequence[Burial]) -> int:
        """Move these entries to the group's dead letters; returns how many were still pending. Raises RedisError.

        Of an entry with more than MOST_FIELDS fields, which is none of ours, the first ones are kept.
        """
        arguments: list[bytes | str | int] = [self._group]
        for burial in burials:
            origin = f"{self._shard.number}/{burial.entry_id.decode()}"
            kept = dict(islice(burial.fields.items(), MOST_FIELDS))
            left_out = len(burial.fields) - len(kept)
            error = f"{burial.reason}: {burial.error}" + (f"; {left_out} more fields are not kept" if left_out else "")
            note = {
                b"origin": origin.encode(),
                b"error": error.encode(),
                b"attempt": b"1",
            }
            flat = [part for pair in (kept | note).items() for part in pair]
            arguments += [burial.entry_id, len(flat), *flat]
        buried = await self._bury(keys=[self._shard.stream, self._shard.dead(self._group)], args=arguments)
        return int(buried)
