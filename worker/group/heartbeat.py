"""Heartbeats: tells which consumers of a group are alive.

Each consumer raises a counter every few seconds, from the same loop that does the work, so a stalled loop raises none.
An observer takes a consumer for dead when it has no counter, or when the counter has not moved for a while of the
observer's own monotonic clock: no clock jump matters.

A worker that was late itself (stopped, starved, cut off) must not settle or call what it has in flight, for others may
have claimed it: it takes a new name, drops the batch and leaves its old name to be found dead like any other.

A server can forget acks that it has confirmed (a fail-over, a restart after a power cut), and a connection that is lost
between two commands is replaced without a word. So now and then each consumer looks whether more is pending under its
own name than it has in flight, and leaves that name if so.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.sources import Source
from worker.timing import TIMING, Timing

log = structlog.get_logger("heartbeat")

RawEntries = list[tuple[bytes, list[bytes]]]
"""Ids, and names and values in turn, as Redis gives them."""

BEAT = read_script(__file__, "beat.lua")


class Heartbeat:
    """The own consumer in one group, and its view of the others."""

    def __init__(
        self,
        group: GroupRef,
        clock: Callable[[], float] = time.monotonic,
        timing: Timing = TIMING,
    ) -> None:
        self._timing = timing
        self._server = group.server
        self._streams = group.streams
        self._group = group.name
        self._alive = group.alive
        self._clock = clock
        self._beat = group.server.register_script(BEAT)
        self._last_beat: float | None = None
        self._abandoned: list[str] = []
        self._seen: dict[bytes, tuple[bytes, float]] = {}
        self._dead: dict[bytes, bytes] = {}
        self._announced = False
        self._checked_at = clock()
        self.generation = 0
        self.consumer = _unique_name()

    def is_late(self, generation: int) -> bool:
        """Whether what was read in this generation may be in other hands by now."""
        if generation != self.generation or self._last_beat is None:
            return True
        return self._clock() - self._last_beat > self._timing.late

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
        if self._last_beat is not None and began - self._last_beat > self._timing.late:
            log.warning(
                "heartbeat.is_late",
                group=self._group,
                seconds=round(began - self._last_beat, 1),
            )
            self.renew()
            self._seen.clear()
        await self._beat(keys=[self._alive], args=[self.consumer])
        self._announced, self._last_beat = True, began
        await self._look()

    def find_dead(self) -> tuple[bytes, bytes] | None:
        """Return a consumer that is dead, and its counter: empty if it has none, for then it has left in order."""
        return next(iter(self._dead.items()), None)

    def forget_dead(self, name: bytes) -> None:
        """Take note that a consumer is removed, or alive after all."""
        self._dead.pop(name, None)

    @property
    def orphan_check_due(self) -> bool:
        """Whether it is time to ``tidy``: the caller then comes to a moment at which nothing is being read."""
        return self._clock() - self._checked_at > self._timing.orphan_check

    async def check_orphans(self, in_flight: Mapping[Source, int]) -> None:
        """Take a new name if more is pending under the own one than is in hand. Raises RedisError.

        Only while nothing is being read: else what is on its way counts as left over.
        """
        async with self._server.pipeline(transaction=False) as pipe:
            for stream in self._streams.values():
                pipe.xpending(stream, self._group)
            found: list[Any] = await pipe.execute()
        own = self.consumer.encode()
        pending = [sum(one["pending"] for one in of["consumers"] if one["name"] == own) for of in found]
        if any(count > in_flight.get(source, 0) for source, count in zip(self._streams, pending, strict=True)):
            log.warning("heartbeat.orphans", group=self._group, consumer=self.consumer)
            self.renew()
        self._checked_at = self._clock()

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
            if not counter or now - self._seen[name][1] >= self._timing.dead:
                dead[name] = counter
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        self._dead = dead


def _unique_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
