"""The pause of a group: all its workers keep what they have in flight, and call nothing.

====================  ======================================================================  =========================
why                   because                                                                 it ends
====================  ======================================================================  =========================
``failing``           nearly everything failed (worker.dispatch.circuit_breaker)              when a probe succeeds
``dead-letters``      there are so many that an operator should look                          when there are fewer
``gone``              the target wants no more (worker.handlers.errors.Gone)                  by `groups resume`
====================  ======================================================================  =========================

It is a hash that expires unless a worker refreshes it, so no crash leaves a group paused; only ``gone`` stays, because
the target gave it as an answer. While nearly everything fails, one worker of the group at a time makes one call to see
whether that is still so: its turn lasts as long as the call may take, and the time between two turns grows, with
jitter.
"""

import random
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import structlog

from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.metrics import PAUSED
from worker.timing import TIMING, Timing

log = structlog.get_logger("pause")

EXPIRES_SECONDS = 60
RESULT_SECONDS = 10.0
"""For how long after its call's time a worker may take to note the result of its probe."""


class Why(StrEnum):
    """Why a group is paused."""

    FAILING = "failing"
    LETTERS = "dead-letters"
    GONE = "gone"


MEANING = {
    Why.FAILING.value: "nearly everything fails; it is tried now and then, and goes on by itself",
    Why.LETTERS.value: "it has too many dead letters; replay or discard some, or raise ACKSTREAM_DEAD_LETTERS",
    Why.GONE.value: "its target wants no more events (410); `ackstream groups resume` it when that has changed",
}

BEGIN = read_script(__file__, "start_pause.lua")
PROBE = read_script(__file__, "take_probe.lua")
FAILED = read_script(__file__, "fail_probe.lua")
LOOK = read_script(__file__, "read_pause.lua")
END = read_script(__file__, "end_pause.lua")


class Pause:
    """Whether one group is paused, as this worker saw it last. Every coroutine raises RedisError."""

    def __init__(
        self,
        group: GroupRef,
        most_letters: int,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        timing: Timing = TIMING,
    ) -> None:
        self._group = group.name
        self._key, self._dead, self._alive = group.paused, group.dead, group.alive
        self._most_letters = most_letters
        self._clock = clock
        self._chance = chance
        self._delays_ms = round(timing.first_probe * 1000), round(timing.longest_probe * 1000)
        self._begin = group.server.register_script(BEGIN)
        self._probe = group.server.register_script(PROBE)
        self._failed = group.server.register_script(FAILED)
        self._look = group.server.register_script(LOOK)
        self._end = group.server.register_script(END)
        self._since = 0.0
        self.why: str | None = None
        """Why it is paused; a later version may know other reasons than this one."""

    async def look(self) -> None:
        """See whether the group is paused; pause it while it has too many dead letters."""
        found: Any = await self._look(keys=[self._key, self._dead], args=[Why.GONE, EXPIRES_SECONDS * 1000])
        why, letters = found[0].decode() or None, int(found[1])
        if why is None and letters >= self._most_letters:
            await self.begin(Why.LETTERS)
        elif why == Why.LETTERS and letters < self._most_letters:
            await self.end(Why.LETTERS)
        else:
            self._set(why)

    async def begin(self, why: Why) -> None:
        """Pause the group for all its workers, unless it is paused already."""
        stays = int(why is Why.GONE)
        args: list[str | int] = [why, stays, EXPIRES_SECONDS * 1000, self._delays_ms[0]]
        self._set((await self._begin(keys=[self._key], args=args)).decode())

    async def end(self, why: Why) -> None:
        """Let the group go on, unless it is paused for another reason by now."""
        self._set((await self._end(keys=[self._key], args=[why])).decode() or None)

    async def may_probe(self, call_seconds: float, consumer: str) -> bool:
        """Whether it is this consumer's turn to make one call, which may take so long."""
        if self.why != Why.FAILING:
            return False
        turn_ms = round((call_seconds + RESULT_SECONDS) * 1000)
        args: list[str | int] = [
            Why.FAILING,
            max(EXPIRES_SECONDS * 1000, turn_ms),
            turn_ms,
            self._delays_ms[1],
            consumer,
        ]
        return bool(await self._probe(keys=[self._key, self._alive], args=args))

    async def note_failed_probe(self) -> None:
        """End this worker's turn: the next one may probe after a delay."""
        args: list[str | int | float] = [Why.FAILING, *self._delays_ms, 0.5 + self._chance() / 2]
        await self._failed(keys=[self._key], args=args)

    def _set(self, why: str | None) -> None:
        if why == self.why:
            return
        if self.why is not None:
            PAUSED.labels(self._group, self.why).set(0)
        if why is not None:
            PAUSED.labels(self._group, why).set(1)
            log.warning("group.paused", group=self._group, why=why, meaning=meaning(why))
            self._since = self._clock()
        else:
            log.info("group.resumed", group=self._group, seconds=round(self._clock() - self._since, 1))
        self.why = why


def meaning(why: str) -> str:
    """Say for people what a reason means."""
    return MEANING.get(why, f"{why} (a reason that this version does not know)")


async def read_pause_reason(group: GroupRef) -> str | None:
    """Return why a group is paused; None if it is not. Raises RedisError."""
    why: Any = await group.server.hget(group.paused, "why")
    return None if why is None else why.decode()


async def resume(group: GroupRef) -> str | None:
    """Let a group go on, whatever the reason for its pause; returns that. Raises RedisError."""
    why = await read_pause_reason(group)
    if why is not None:
        await group.server.delete(group.paused)
    return why
