"""A group that is paused: all its workers keep what they have in hand, and begin nothing.

====================  ======================================================================  =========================
why                   because                                                                 it ends
====================  ======================================================================  =========================
``failing``           nearly everything failed (worker.breaker)                               when a probe succeeds
``dead-letters``      so many were made that somebody should look                             when there are fewer
``gone``              the target wants no more (worker.outcome.Gone)                          by `groups resume`
====================  ======================================================================  =========================

It is noted in a hash that expires unless a worker goes on refreshing it, so no crash leaves a group paused; only
``gone`` stays, for it is an answer that somebody gave. While nearly everything fails, one of all workers at a time may
make one call to see whether that is still so; the time between two such probes grows, with jitter.
"""

import random
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import structlog
from redis.asyncio import Redis

from runtime.metrics import PAUSED
from stream.keys import Shard

log = structlog.get_logger("pause")

LOOK_SECONDS = 1.0
EXPIRES_SECONDS = 60
FIRST_PROBE_SECONDS = 0.5
LONGEST_PROBE_SECONDS = 15.0


class Why(StrEnum):
    """Why a group is paused."""

    FAILING = "failing"
    LETTERS = "dead-letters"
    GONE = "gone"


MEANING = {
    Why.FAILING: "nearly everything fails; it is tried now and then, and goes on by itself",
    Why.LETTERS: "it has too many dead letters; replay or discard some, or raise ACKSTREAM_DEAD_LETTERS",
    Why.GONE: "its target wants no more events (410); `ackstream groups resume` it when that has changed",
}

# KEYS: paused. ARGV: why, 1 if it stays, expiry in ms, ms until the first probe. 1: it is paused now for this reason.
BEGIN = """#!lua flags=allow-oom
local why = redis.call('HGET', KEYS[1], 'why')
if why and (why == ARGV[1] or ARGV[2] == '0') then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'why', ARGV[1], 'since', now, 'tries', 0, 'probe', now + ARGV[4])
if ARGV[2] == '0' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
"""

# KEYS: paused. ARGV: reason that is probed, expiry in ms, delays in ms (first, longest), jitter. 1: probe now.
PROBE = """#!lua flags=allow-oom
if redis.call('HGET', KEYS[1], 'why') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now < tonumber(redis.call('HGET', KEYS[1], 'probe')) then return 0 end
local tries = math.min(redis.call('HINCRBY', KEYS[1], 'tries', 1), 30)
local delay = math.min(tonumber(ARGV[4]), ARGV[3] * 2 ^ tries) * tonumber(ARGV[5])
redis.call('HSET', KEYS[1], 'probe', math.floor(now + delay))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

# KEYS: paused, dead letters. ARGV: reason that stays, expiry in ms. Returns why it is paused or '', how many letters.
LOOK = """#!lua flags=allow-oom
local why = redis.call('HGET', KEYS[1], 'why') or ''
if why ~= '' and why ~= ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return {why, redis.call('XLEN', KEYS[2])}
"""

# KEYS: paused. ARGV: why. 1: it was paused for this reason, and is no more.
END = """#!lua flags=allow-oom
if redis.call('HGET', KEYS[1], 'why') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class Pause:
    """Whether one group is paused, as this worker saw it last. Every method that asks the server raises RedisError."""

    def __init__(
        self,
        server: Redis,
        shard: Shard,
        group: str,
        most_letters: int,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._group = group
        self._key, self._dead = shard.paused(group), shard.dead(group)
        self._most_letters = most_letters
        self._clock = clock
        self._chance = chance
        self._begin = server.register_script(BEGIN)
        self._probe = server.register_script(PROBE)
        self._look = server.register_script(LOOK)
        self._end = server.register_script(END)
        self._since = 0.0
        self.why: Why | None = None

    async def look(self) -> None:
        """See whether the group is paused; pause it if it has too many dead letters, and not for that any more."""
        found: Any = await self._look(keys=[self._key, self._dead], args=[Why.GONE, EXPIRES_SECONDS * 1000])
        why, letters = Why(found[0].decode()) if found[0] else None, int(found[1])
        if why is None and letters >= self._most_letters:
            await self.begin(Why.LETTERS)
        elif why is Why.LETTERS and letters < self._most_letters:
            await self.end(why)
        else:
            self._is(why)

    async def begin(self, why: Why) -> None:
        """Pause the group for all its workers."""
        stays, first_ms = int(why is Why.GONE), round(FIRST_PROBE_SECONDS * 1000)
        await self._begin(keys=[self._key], args=[why, stays, EXPIRES_SECONDS * 1000, first_ms])
        self._is(why)

    async def end(self, why: Why) -> None:
        """Let the group go on, unless it is paused for another reason by now."""
        await self._end(keys=[self._key], args=[why])
        self._is(None)

    async def may_probe(self) -> bool:
        """Whether it is this worker's turn to see if things are better."""
        if self.why is not Why.FAILING:
            return False
        delays = round(FIRST_PROBE_SECONDS * 1000), round(LONGEST_PROBE_SECONDS * 1000)
        jitter = 0.5 + self._chance() / 2
        args: list[str | int | float] = [Why.FAILING, EXPIRES_SECONDS * 1000, *delays, jitter]
        return bool(await self._probe(keys=[self._key], args=args))

    def _is(self, why: Why | None) -> None:
        if why is self.why:
            return
        if self.why is not None:
            PAUSED.labels(self._group, self.why).set(0)
        if why is not None:
            PAUSED.labels(self._group, why).set(1)
            log.warning("group.paused", group=self._group, why=why.value, meaning=MEANING[why])
            self._since = self._clock()
        else:
            log.info("group.resumed", group=self._group, seconds=round(self._clock() - self._since, 1))
        self.why = why


async def paused(server: Redis, shard: Shard, group: str) -> str | None:
    """Return why a group is paused; None if it is not. Raises RedisError."""
    why: Any = await server.hget(shard.paused(group), "why")
    return None if why is None else why.decode()


async def resume(server: Redis, shard: Shard, group: str) -> str | None:
    """Let a group go on, whyever it was paused; returns that. Raises RedisError."""
    why = await paused(server, shard, group)
    if why is not None:
        await server.delete(shard.paused(group))
    return why
