"""Heartbeats: find out which consumers of a group are dead.

Each consumer increments a counter every few seconds, in the same loop that does the work, so a stalled loop increments
none. Another worker considers a consumer dead if it has no counter, or if the counter has not moved for some time of
that worker's own monotonic clock: clock jumps have no effect.

A worker that missed its heartbeat (stopped, starved, cut off) must not settle or call its entries in flight, because
another worker may have claimed them. It takes a new name and drops the batch. The others find its old name dead.

A server can lose acks that it has confirmed (a fail-over, a restart after a power cut), and redis-py replaces a lost
connection silently. So each consumer checks for orphans from time to time: if more entries are pending under its name
than it has in flight, it takes a new name.
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
"""Pairs of an id and a flat list of names and values, as in a reply of Redis."""

BEAT = read_script(__file__, "beat.lua")


class Heartbeat:
    """The heartbeat of this consumer in one group, and its view of the other consumers."""

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
        self._counters: dict[bytes, tuple[bytes, float]] = {}
        self._dead: dict[bytes, bytes] = {}
        self._announced = False
        self._checked_at = clock()
        self.generation = 0
        self.alive = 1
        """How many consumers are alive, this one included."""
        self.may_leave: Callable[[], bool] = lambda: True
        """Whether others may claim the entries of this consumer's former names. In order mode not while a call runs."""
        self.consumer = _unique_name()

    def is_late(self, generation: int) -> bool:
        """Whether another worker may have claimed the entries that were read in this generation."""
        if generation != self.generation or self._last_beat is None:
            return True
        return self._clock() - self._last_beat > self._timing.late

    def renew(self) -> None:
        """Take a new name. Another worker claims the entries that are pending under the old one."""
        self._abandoned.append(self.consumer)
        self.consumer = _unique_name()
        self.generation += 1
        self._announced = False

    async def announce(self) -> None:
        """Create the counter if it is missing: without one, others consider this consumer dead. Raises RedisError."""
        if not self._announced:
            await self.beat()

    async def beat(self) -> None:
        """Increment this consumer's counter, then read those of the others. Raises RedisError.

        The consumer may take a new name while this waits: the new name then has no counter yet.
        """
        if self.may_leave() and (abandoned := list(self._abandoned)):
            await self._server.hdel(self._alive, *abandoned)
            self._abandoned = [name for name in self._abandoned if name not in abandoned]
        started = self._clock()
        if self._last_beat is not None and started - self._last_beat > self._timing.late:
            log.warning(
                "heartbeat.late",
                group=self._group,
                seconds=round(started - self._last_beat, 1),
            )
            self.renew()
            self._counters.clear()
        name = self.consumer
        await self._beat(keys=[self._alive], args=[name])
        self._last_beat = started
        if name == self.consumer:
            self._announced = True
        else:
            self._abandoned.append(name)
        await self._refresh()

    def find_dead(self) -> tuple[bytes, bytes] | None:
        """Return a dead consumer and its counter. The counter is empty if the consumer left in order."""
        return next(iter(self._dead.items()), None)

    def find_counter_of_dead(self, name: bytes) -> bytes | None:
        """Return the counter of a consumer that is dead, empty if it left in order or is unknown; None if it lives."""
        return self._dead.get(name) if name in self._counters else self._dead.get(name, b"")

    def forget_dead(self, name: bytes) -> None:
        """Forget a consumer that is removed, or alive after all."""
        self._dead.pop(name, None)

    @property
    def orphan_check_due(self) -> bool:
        """Whether to call ``check_orphans``, once no read is under way."""
        return self._clock() - self._checked_at > self._timing.orphan_check

    async def check_orphans(self, in_flight: Mapping[Source, int]) -> None:
        """Take a new name if more entries are pending under this name than are in flight. Raises RedisError.

        Only while no read is under way: the entries of a reply on its way would count as orphans.
        """
        async with self._server.pipeline(transaction=False) as pipe:
            for stream in self._streams.values():
                pipe.xpending(stream, self._group)
            summaries: list[Any] = await pipe.execute()
        name = self.consumer.encode()
        pending = [
            sum(consumer["pending"] for consumer in summary["consumers"] if consumer["name"] == name)
            for summary in summaries
        ]
        if any(count > in_flight.get(source, 0) for source, count in zip(self._streams, pending, strict=True)):
            log.warning("heartbeat.orphans", group=self._group, consumer=self.consumer)
            self.renew()
        self._checked_at = self._clock()

    async def leave(self) -> None:
        """Delete this consumer's counter: other workers then claim its pending entries. Raises RedisError."""
        if self.may_leave():
            await self._server.hdel(self._alive, self.consumer, *self._abandoned)

    async def _refresh(self) -> None:
        async with self._server.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._alive)
            for stream in self._streams.values():
                pipe.xinfo_consumers(stream, self._group)
            counters, *replies = await pipe.execute()
        now = self._clock()
        names: set[bytes] = {consumer["name"] for consumers in replies for consumer in consumers} | counters.keys()
        dead: dict[bytes, bytes] = {}
        for name in names - {self.consumer.encode()}:
            counter = counters.get(name, b"")
            before = self._counters.get(name)
            if before is None or before[0] != counter:
                self._counters[name] = counter, now
            if not counter or now - self._counters[name][1] >= self._timing.dead:
                dead[name] = counter
        self._counters = {name: observed for name, observed in self._counters.items() if name in names}
        self._dead = dead
        self.alive = 1 + len(counters.keys() - dead.keys() - {self.consumer.encode()})


def _unique_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
