"""Entries that may be what their workers died of, and how the one that is gets told from its neighbours.

Whoever takes entries over from a dead worker counts it. At the second time each of them is handled alone: nothing else
of the group is being handled by that worker then, and before its handler runs it is marked. Only a death with that mark
speaks against an entry, and the mark is for one entry; what was merely near it is handled and forgotten. An orderly
hand-over counts for nothing, and Redis's own delivery count is not asked: it rises for other reasons too.

All is kept in one hash that expires, so what is left of entries that are gone goes as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard
from worker.consumer.fetch_plan import Source

ALONE_AFTER = 2
MOST_DEATHS = 3
KEPT_SECONDS = 24 * 3600

# KEYS: suspects. ARGV: consumer, 1 if it died, ms until it expires, source, then ids. Returns for each id how often it
# was taken over and how many died of it.
TOOK_OVER = """#!lua flags=allow-oom
local died, marked = ARGV[2] == '1', redis.call('HGET', KEYS[1], 'alone:' .. ARGV[1])
local found = {}
for i = 5, #ARGV do
  local name = ARGV[4] .. ':' .. ARGV[i]
  if died then redis.call('HINCRBY', KEYS[1], name, 1) end
  if died and marked == name then
    redis.call('HINCRBY', KEYS[1], 'deaths:' .. name, 1)
    redis.call('HDEL', KEYS[1], 'alone:' .. ARGV[1])
  end
  found[#found + 1] = tonumber(redis.call('HGET', KEYS[1], name) or '0')
  found[#found + 1] = tonumber(redis.call('HGET', KEYS[1], 'deaths:' .. name) or '0')
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return found
"""

IDS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Suspicion:
    """How often an entry was taken over from a dead worker, and how many died while they had it alone in hand."""

    taken_over: int
    deaths: int

    @property
    def alone(self) -> bool:
        """Whether it is to be handled alone."""
        return self.taken_over >= ALONE_AFTER or self.deaths > 0

    @property
    def proved(self) -> bool:
        """Whether it is to be given up."""
        return self.deaths >= MOST_DEATHS


NONE = Suspicion(0, 0)


class Suspects:
    """The suspects of one group. Every method that asks the server raises RedisError."""

    def __init__(self, server: Redis, shard: Shard, group: str) -> None:
        self._server = server
        self._key = shard.suspects(group)
        self._took_over = server.register_script(TOOK_OVER)
        self._known: dict[tuple[Source, bytes], Suspicion] = {}

    async def took_over(self, source: Source, entry_ids: Sequence[bytes], consumer: str, *, died: bool) -> None:
        """Take in that these were taken over from a consumer, which may have died or handed them over."""
        for start in range(0, len(entry_ids), IDS_AT_ONCE):
            some = entry_ids[start : start + IDS_AT_ONCE]
            args: list[bytes | str | int] = [consumer, int(died), KEPT_SECONDS * 1000, source, *some]
            found: Any = await self._took_over(keys=[self._key], args=args)
            pairs = zip(some, map(int, found[::2]), map(int, found[1::2]), strict=True)
            self._known |= {(source, one): Suspicion(times, deaths) for one, times, deaths in pairs if times or deaths}

    @property
    def any_in_hand(self) -> bool:
        """Whether anything speaks against any entry that is in hand."""
        return bool(self._known)

    def of(self, source: Source, entry_id: bytes) -> Suspicion:
        """Return what speaks against an entry that is in hand."""
        return self._known.get((source, entry_id), NONE)

    async def mark(self, source: Source, entry_id: bytes, consumer: str) -> None:
        """Say that this consumer is about to handle an entry, and nothing else."""
        fields: Any = {f"alone:{consumer}": b"%b:%b" % (source.encode(), entry_id)}
        await self._server.hset(self._key, mapping=fields)

    async def clear(self, source: Source, entry_ids: Sequence[bytes]) -> None:
        """Forget entries that are settled."""
        known = [one for one in entry_ids if self._known.pop((source, one), None)] if self._known else []
        names = [b"%b:%b" % (source.encode(), one) for one in known]
        for start in range(0, len(names), IDS_AT_ONCE):
            some = names[start : start + IDS_AT_ONCE]
            fields: Any = [*some, *(b"deaths:" + name for name in some)]
            await self._server.hdel(self._key, *fields)

    def forget(self) -> None:
        """Forget what is known of the entries in hand, for they are in hand no more."""
        self._known.clear()
