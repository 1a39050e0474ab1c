"""Who of a group's consumers is alive, and what to do with the entries of those who are not.

Each consumer raises a counter every few seconds, from the same loop that does the work, so a stalled loop raises none.
An observer takes a consumer for dead when it has no counter, or when the counter has not moved for a while of the
observer's own monotonic clock: no clock jump matters. One script moves a bounded share of a dead consumer's entries.

Who was late itself (stopped, starved, cut off) must not settle what it has in hand, for others may have it by now: it
takes a new name, drops the batch and leaves its old name to be found dead like any other.

A server can forget acks that it has confirmed (a fail-over, a restart after a power cut), and a connection that is lost
between two commands is replaced without a word. So now and then each consumer looks whether more is pending under its
own name than it has in hand, and leaves that name if so.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from redis.asyncio import Redis

from runtime.metrics import CLAIMED
from stream.keys import Shard
from worker.consumer.fetch_plan import Source, streams
from worker.group.poison import Suspects

log = structlog.get_logger("liveness")

BEAT_SECONDS = 3.0
LATE_SECONDS = 10.0
DEAD_SECONDS = 15.0
TIDY_SECONDS = 10.0

RawEntries = list[tuple[bytes, list[bytes] | None]]
"""Ids, and names and values in turn, as Redis gives them; None for what was deleted while it was pending."""

# HINCRBY as it is; but in a script a full server takes it too, so nobody seems dead for want of memory.
BEAT = """#!lua flags=allow-oom
return redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
"""

# KEYS: alive, streams. ARGV: group, claimer, dead consumer, its counter as observed or '', most entries.
# nil: it is alive after all. Empty: nothing was left, the consumer is removed. Else the stream's place and its entries.
CLAIM = """#!lua flags=allow-oom
if (redis.call('HGET', KEYS[1], ARGV[3]) or '') ~= ARGV[4] then return false end
for k = 2, #KEYS do
  local pending = redis.call('XPENDING', KEYS[k], ARGV[1], '-', '+', ARGV[5], ARGV[3])
  if #pending > 0 then
    local ids = {}
    for i, entry in ipairs(pending) do ids[i] = entry[1] end
    return {k - 2, redis.call('XCLAIM', KEYS[k], ARGV[1], ARGV[2], 0, unpack(ids))}
  end
end
for k = 2, #KEYS do redis.call('XGROUP', 'DELCONSUMER', KEYS[k], ARGV[1], ARGV[3]) end
redis.call('HDEL', KEYS[1], ARGV[3])
return {}
"""


class Liveness:
    """The own consumer in one group, and its view of the others."""

    def __init__(
        self,
        server: Redis,
        shard: Shard,
        group: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._streams = streams(shard, group)
        self._group = group
        self._alive = shard.alive(group)
        self._clock = clock
        self._beat = server.register_script(BEAT)
        self._claim = server.register_script(CLAIM)
        self._last_beat: float | None = None
        self._abandoned: list[str] = []
        self._seen: dict[bytes, tuple[bytes, float]] = {}
        self._dead: dict[bytes, bytes] = {}
        self._announced = False
        self._tidied = clock()
        self.suspects = Suspects(server, shard, group)
        self.generation = 0
        self.consumer = _unique_name()

    def late(self, generation: int) -> bool:
        """Whether what was read in this generation may be in other hands by now."""
        if generation != self.generation or self._last_beat is None:
            return True
        return self._clock() - self._last_beat > LATE_SECONDS

    def renew(self) -> None:
        """Take a new name and leave the old one, with all that is pending under it, to be claimed."""
        if self._announced:
            self._abandoned.append(self.consumer)
        self.consumer = _unique_name()
        self.generation += 1
        self._announced = False

    async def announce(self) -> None:
        """Return when the name has its counter: who reads without one is taken for dead. Raises RedisError."""
        if not self._announced:
            await self.beat()

    async def beat(self) -> None:
        """Raise the own counter, then look at the others'. Raises RedisError."""
        if self._abandoned:
            await self._server.hdel(self._alive, *self._abandoned)
            self._abandoned.clear()
        began = self._clock()
        if self._last_beat is not None and began - self._last_beat > LATE_SECONDS:
            log.warning(
                "liveness.late",
                group=self._group,
                seconds=round(began - self._last_beat, 1),
            )
            self.renew()
            self._seen.clear()
        await self._beat(keys=[self._alive], args=[self.consumer])
        self._announced, self._last_beat = True, began
        await self._look()

    async def claim(self, most: int) -> dict[Source, RawEntries]:
        """Take over at most ``most`` entries of one stream from one dead consumer; empty when there are none."""
        while self._dead:
            name, counter = next(iter(self._dead.items()))
            taken = await self._claim(
                keys=[self._alive, *self._streams.values()],
                args=[self._group, self.consumer, name, counter, most],
            )
            if taken:
                place, entries = taken
                source = list(self._streams)[place]
                log.warning(
                    "liveness.claimed",
                    group=self._group,
                    dead=name.decode(),
                    source=source.value,
                    entries=len(entries),
                )
                CLAIMED.labels(self._group).inc(len(entries))
                await self.suspects.took_over(source, [one for one, _ in entries], name.decode(), died=bool(counter))
                return {source: entries}
            if taken is not None:
                log.info("liveness.removed", group=self._group, consumer=name.decode())
            self._dead.pop(name, None)
        return {}

    async def mark(self, source: Source, entry_id: bytes) -> None:
        """Say that this entry is about to be handled alone, for the case that the worker dies of it."""
        await self.suspects.mark(source, entry_id, self.consumer)

    @property
    def untidy(self) -> bool:
        """Whether it is time to ``tidy``: the caller then comes to a moment at which nothing is being read."""
        return self._clock() - self._tidied > TIDY_SECONDS

    async def tidy(self, in_hand: Mapping[Source, int]) -> None:
        """Take a new name if more is pending under the own one than is in hand. Raises RedisError.

        Only while nothing is being read: else what is on its way counts as left over.
        """
        async with self._server.pipeline(transaction=False) as pipe:
            for stream in self._streams.values():
                pipe.xpending(stream, self._group)
            found: list[Any] = await pipe.execute()
        own = self.consumer.encode()
        pending = [sum(one["pending"] for one in of["consumers"] if one["name"] == own) for of in found]
        if any(count > in_hand.get(source, 0) for source, count in zip(self._streams, pending, strict=True)):
            log.warning("liveness.left_over", group=self._group, consumer=self.consumer)
            self.renew()
        self._tidied = self._clock()

    async def leave(self) -> None:
        """Take the own counter away: whoever looks next claims what is left. Raises RedisError."""
        await self._server.hdel(self._alive, self.consumer, *self._abandoned)

    async def _look(self) -> None:
        async with self._server.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._alive)
            for stream in self._streams.values():
                pipe.xinfo_consumers(stream, self._group)
            counters, *found = await pipe.execute()
        now = self._clock()
        names: set[bytes] = {consumer["name"] for consumers in found for consumer in consumers} | counters.keys()
        dead: dict[bytes, bytes] = {}
        for name in names - {self.consumer.encode()}:
            counter = counters.get(name, b"")
            before = self._seen.get(name)
            if before is None or before[0] != counter:
                self._seen[name] = counter, now
            if not counter or now - self._seen[name][1] >= DEAD_SECONDS:
                dead[name] = counter
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        self._dead = dead


def _unique_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
