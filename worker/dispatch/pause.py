"""The pause of a group: its workers keep their entries in flight, and make no calls.

====================  ======================================================================  =========================
reason                cause                                                                   end
====================  ======================================================================  =========================
``failing``           nearly every call failed (worker.dispatch.circuit_breaker)              when a probe succeeds
``dead-letters``      the group has too many dead letters                                     when it has fewer
``gone``              the target refuses all events (worker.handlers.errors.Gone)             by `groups resume`
``operator``          a person paused it with `groups pause` or in the console                by `groups resume`
====================  ======================================================================  =========================

The pause is a hash that expires unless a worker refreshes it, so a crash cannot leave a group paused. It is on shard 0
and holds for all shards: the target is one, and so a person pauses or resumes the whole group in one step. Only
``gone`` and ``operator`` stay, because the target or a person asked for them; no other reason replaces them. While the
group is failing, one worker at a time makes one call, the probe. Its turn lasts as long as the call may take, and the
time between two turns grows, with jitter.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import structlog

from stream.keys import Shard
from stream.redis.cluster import ask_shards
from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.metrics import PAUSED
from worker.timing import TIMING, Timing

log = structlog.get_logger("pause")

EXPIRES_SECONDS = 60
RESULT_SECONDS = 10.0
"""The time that a worker has to record the result of its probe, after the timeout of the call."""


class PauseReason(StrEnum):
    """Why a group is paused."""

    FAILING = "failing"
    DEAD_LETTERS = "dead-letters"
    GONE = "gone"
    OPERATOR = "operator"


MEANING = {
    PauseReason.FAILING.value: "nearly every call fails; the workers probe the target, and resume on success",
    PauseReason.DEAD_LETTERS.value: "too many dead letters; replay or discard some, or raise ACKSTREAM_DEAD_LETTERS",
    PauseReason.GONE.value: "its target refuses all events (410); run `ackstream groups resume` once it accepts them",
    PauseReason.OPERATOR.value: "a person paused it; run `ackstream groups resume` to continue",
    "backlog": "its delayed retries and dead letters are at their limit; replay or discard dead letters",
}
"""``backlog`` is a reason of worker.dispatch.backlog, and never in Redis."""

BEGIN = read_script(__file__, "start_pause.lua")
PROBE = read_script(__file__, "take_probe.lua")
FAILED = read_script(__file__, "fail_probe.lua")
LOOK = read_script(__file__, "read_pause.lua")
END = read_script(__file__, "end_pause.lua")
HASTEN = read_script(__file__, "hasten_probe.lua")


class Pause:
    """The pause of one group, as this worker read it last. Each coroutine raises RedisError.

    ``group`` is that of shard 0; the dead letters of all ``shards`` count, as they were when each shard last answered.
    """

    def __init__(
        self,
        group: GroupRef,
        max_dead_letters: int,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        timing: Timing = TIMING,
        shards: Sequence[Shard] = (),
    ) -> None:
        self._server = group.server
        self._group = group.name
        self._key, self._alive = group.paused, group.alive
        self._shards = shards or [group.shard]
        self._max_dead_letters = max_dead_letters
        self._clock = clock
        self._chance = chance
        self._delays_ms = round(timing.first_probe * 1000), round(timing.longest_probe * 1000)
        self._start = group.server.register_script(BEGIN)
        self._probe = group.server.register_script(PROBE)
        self._failed = group.server.register_script(FAILED)
        self._look = group.server.register_script(LOOK)
        self._end = group.server.register_script(END)
        self._letters: dict[Shard, int] = {}
        self._since = 0.0
        self.reason: str | None = None
        """Why the group is paused, None if it is not. A later version may write reasons that this one does not know."""

    async def refresh(self) -> None:
        """Read whether the group is paused, and pause it while it has too many dead letters."""
        reply: Any = await self._look(keys=[self._key], args=[EXPIRES_SECONDS * 1000])
        reason = _text(reply) or None
        self._letters |= await ask_shards(self._server, self._shards, self._count_letters)
        letters = sum(self._letters.values())
        if reason is None and letters >= self._max_dead_letters:
            await self.start(PauseReason.DEAD_LETTERS)
        elif reason == PauseReason.DEAD_LETTERS and self._may_end(letters):
            await self.end(PauseReason.DEAD_LETTERS)
        else:
            self._set(reason)

    async def _count_letters(self, shard: Shard) -> int:
        return int(await self._server.xlen(shard.dead(self._group)))

    def _may_end(self, letters: int) -> bool:
        """Whether the group has few enough dead letters, and each shard was counted."""
        return letters < self._max_dead_letters and len(self._letters) >= len(self._shards)

    async def start(self, reason: PauseReason) -> None:
        """Pause the group for all its workers, unless it is paused already."""
        stays = int(reason is PauseReason.GONE)
        args: list[str | int] = [reason, stays, EXPIRES_SECONDS * 1000, self._delays_ms[0]]
        self._set(_text(await self._start(keys=[self._key], args=args)))

    async def end(self, reason: PauseReason) -> None:
        """Resume the group, unless it is now paused for another reason."""
        self._set(_text(await self._end(keys=[self._key], args=[reason])) or None)

    async def take_probe(self, call_seconds: float, consumer: str) -> bool:
        """Take the turn to make one call of at most ``call_seconds``; False if another consumer has it."""
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
        """End this worker's turn after a failed probe. The next probe waits for a delay."""
        args: list[str | int | float] = [PauseReason.FAILING, *self._delays_ms, 0.5 + self._chance() / 2]
        await self._failed(keys=[self._key], args=args)

    def _set(self, reason: str | None) -> None:
        if reason == self.reason:
            return
        if self.reason is not None:
            PAUSED.labels(self._group, self.reason).set(0)
        if reason is not None:
            PAUSED.labels(self._group, reason).set(1)
            log.warning("group.paused", group=self._group, why=reason, meaning=describe_reason(reason))
            self._since = self._clock()
        else:
            log.info("group.resumed", group=self._group, seconds=round(self._clock() - self._since, 1))
        self.reason = reason


def describe_reason(reason: str) -> str:
    """Return the text of a reason, with the next step."""
    return MEANING.get(reason, f"{reason} (a reason that this version does not know)")


@dataclass(frozen=True, slots=True)
class PauseRecord:
    """The pause of a group as Redis stores it. ``person`` and ``why`` are empty unless a person paused the group."""

    reason: str
    since_ms: int | None
    person: str
    why: str
    next_probe_ms: int | None
    """When the next probe is due; None if the reason allows none."""

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Self | None:
        """Decode the hash; None if the group is not paused."""
        text = {name: value.decode(errors="replace") for name, value in fields.items()}
        if b"why" not in text:
            return None
        probe = _number(text.get(b"probe", "")) if text[b"why"] == PauseReason.FAILING else None
        since_ms = _number(text.get(b"since", ""))
        return cls(text[b"why"], since_ms, text.get(b"person", ""), text.get(b"note", ""), probe)


def _text(reason: bytes) -> str:
    return reason.decode(errors="backslashreplace")  # a person may have written any bytes


def _number(digits: str) -> int | None:
    return int(digits) if digits.isascii() and digits.isdigit() else None


async def read_pause(group: GroupRef) -> PauseRecord | None:
    """Return the pause of a group; None if it is not paused. Raises RedisError."""
    fields: Any = await group.server.hgetall(group.paused)
    return PauseRecord.from_fields(fields)


async def pause_by_hand(group: GroupRef, person: str, why: str) -> None:
    """Pause a group until `resume`; this replaces a pause for another reason. Raises RedisError."""
    seconds, microseconds = await group.server.time()
    now_ms = seconds * 1000 + microseconds // 1000
    async with group.server.pipeline(transaction=True) as pipe:
        pipe.delete(group.paused)
        pipe.hset(group.paused, mapping={"why": PauseReason.OPERATOR, "since": now_ms, "person": person, "note": why})
        await pipe.execute()


async def read_pause_reason(group: GroupRef) -> str | None:
    """Return why a group is paused; None if it is not. Raises RedisError."""
    reason: Any = await group.server.hget(group.paused, "why")
    return None if reason is None else _text(reason)


async def hasten_probe(group: GroupRef) -> tuple[str | None, bool]:
    """Make the next probe due at once.

    Return the reason of the pause, None without one, and whether a probe runs already. A pause for another reason than
    FAILING has no probes, and stays as it is. Raises RedisError.
    """
    reply: Any = await group.server.register_script(HASTEN)(keys=[group.paused], args=[PauseReason.FAILING])
    return _text(reply[0]) or None, bool(reply[1])


async def resume(group: GroupRef) -> str | None:
    """Resume a group, and return why it was paused, or None. Raises RedisError."""
    reason = await read_pause_reason(group)
    if reason is not None:
        await group.server.delete(group.paused)
    return reason
