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


class PauseReason(StrEnum):
    """Why a group is paused."""

    FAILING = "failing"
    DEAD_LETTERS = "dead-letters"
    GONE = "gone"


MEANING = {
    PauseReason.FAILING.value: "nearly everything fails; it is tried now and then, and goes on by itself",
    PauseReason.DEAD_LETTERS.value: "too many dead letters; replay or discard some, or raise ACKSTREAM_DEAD_LETTERS",
    PauseReason.GONE.value: "its target wants no more events (410); `ackstream groups resume` it when that has changed",
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
        max_dead_letters: int,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        timing: Timing = TIMING,
    ) -> None:
        self._group = group.name
        self._key, self._dead, self._alive = group.paused, group.dead, group.alive
        self._max_dead_letters = max_dead_letters
        self._clock = clock
        self._chance = chance
        self._delays_ms = round(timing.first_probe * 1000), round(timing.longest_probe * 1000)
        self._start = group.server.register_script(BEGIN)
        self._probe = group.server.register_script(PROBE)
        self._failed = group.server.register_script(FAILED)
        self._look = group.server.register_script(LOOK)
        self._end = group.server.register_script(END)
        self._since = 0.0
        self.reason: str | None = None
        """Why it is paused; a later version may know other reasons than this one."""

    async def refresh(self) -> None:
        """See whether the group is paused; pause it while it has too many dead letters."""
        found: Any = await self._look(keys=[self._key, self._dead], args=[PauseReason.GONE, EXPIRES_SECONDS * 1000])
        why, letters = found[0].decode() or None, int(found[1])
        if why is None and letters >= self._max_dead_letters:
            await self.start(PauseReason.DEAD_LETTERS)
        elif why == PauseReason.DEAD_LETTERS and letters < self._max_dead_letters:
            await self.end(PauseReason.DEAD_LETTERS)
        else:
            self._set(why)

    async def start(self, reason: PauseReason) -> None:
        """Pause the group for all its workers, unless it is paused already."""
        stays = int(reason is PauseReason.GONE)
        args: list[str | int] = [reason, stays, EXPIRES_SECONDS * 1000, self._delays_ms[0]]
        self._set((await self._start(keys=[self._key], args=args)).decode())

    async def end(self, reason: PauseReason) -> None:
        """Let the group go on, unless it is paused for another reason by now."""
        self._set((await self._end(keys=[self._key], args=[reason])).decode() or None)

    async def take_probe(self, call_seconds: float, consumer: str) -> bool:
        """Whether it is this consumer's turn to make one call, which may take so long."""
        if self.reason != PauseReason.FAILING:
            return False
        turn_ms = round((call_seconds + RESULT_SECONDS) * 1000)
        args: list[str | int] = [
            PauseReason.FAILING,
            max(EXPIRES_SECONDS * 1000, turn_ms),
            turn_ms,
            self._delays_ms[1],
            consumer,
        ]
        return bool(await self._probe(keys=[self._key, self._alive], args=args))

    async def note_failed_probe(self) -> None:
        """End this worker's turn: the next one may probe after a delay."""
        args: list[str | int | float] = [PauseReason.FAILING, *self._delays_ms, 0.5 + self._chance() / 2]
        await self._failed(keys=[self._key], args=args)

    def _set(self, reason: str | None) -> None:
        if reason == self.reason:
            return
        if self.reason is not None:
            PAUSED.labels(self._group, self.reason).set(0)
        if reason is not None:
            PAUSED.labels(self._group, reason).set(1)
            log.warning("group.paused", group=self._group, reason=reason, meaning=describe_reason(reason))
            self._since = self._clock()
        else:
            log.info("group.resumed", group=self._group, seconds=round(self._clock() - self._since, 1))
        self.reason = reason


def describe_reason(reason: str) -> str:
    """Say for people what a reason means."""
    return MEANING.get(reason, f"{reason} (a reason that this version does not know)")


async def read_pause_reason(group: GroupRef) -> str | None:
    """Return reason a group is paused; None if it is not. Raises RedisError."""
    reason: Any = await group.server.hget(group.paused, "why")
    return None if reason is None else reason.decode()


async def resume(group: GroupRef) -> str | None:
    """Let a group go on, whatever the reason for its pause; returns that. Raises RedisError."""
    reason = await read_pause_reason(group)
    if reason is not None:
        await group.server.delete(group.paused)
    return reason
