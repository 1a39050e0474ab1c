"""Order mode of one group on one shard: who handles it, and which event may go next.

Only the owner of the shard reads it. Before it reads new entries, it closes the lanes of delayed events and claims
everything that is pending, in order. Every read and every settlement is fenced.
"""

import time
from collections.abc import Callable, Sequence

import structlog

from stream.redis.scripts import read_script
from worker.events.event import StatusEvent
from worker.group.claim import MOST_CLAIMED
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat, RawEntries
from worker.group.poison import PoisonTracker
from worker.metrics import ORDER_OVERLAPS, ORDER_WAITING
from worker.order.delayed_events import DelayedEvents
from worker.order.fence import Fence, OwnershipLost
from worker.order.gate import MOST_WAITING, MessageGate
from worker.order.ownership import Ownership
from worker.order.succession import Succession
from worker.sources import Source

log = structlog.get_logger("order")

OVERDUE_SECONDS = 30.0
"""A delayed retry that has not come back this long after it was due may have been removed by a person."""
CHECK_SHARE = 20
"""Looking for removed retries takes at most this part of the time."""

LOAD = read_script(__file__, "load_entries.lua")


class ShardSurplus(OwnershipLost):
    """The worker has more shards than its share, and gives this one away. All calls of the shard have ended."""


class MessageOrder:
    """The parts of order mode. The consumers of a group share ``owned``: the numbers of this worker's shards."""

    def __init__(
        self,
        group: GroupRef,
        heartbeat: Heartbeat,
        poison: PoisonTracker,
        owned: set[int],
        count_shards: Callable[[], int],
    ) -> None:
        self._group = group
        self._heartbeat = heartbeat
        self._poison = poison
        self._generation = -1
        self._ownership = Ownership(group, heartbeat, owned, count_shards)
        self._delayed = DelayedEvents(group)
        self._next_check = 0.0
        self._waiting = ORDER_WAITING.labels(group.name, str(group.shard.number))
        self._overlaps = ORDER_OVERLAPS.labels(group.name)
        self.shard = group.shard.number
        self.gate = MessageGate(group.shard.number)
        self.fence = Fence(group, heartbeat)
        self.claimer = Succession(group, heartbeat, poison, self.fence)
        self._load = self.fence.register(LOAD)

    @property
    def not_ready_reason(self) -> str | None:
        """Why no live entries are read; None if they are."""
        if not self.gate.is_full:
            return None
        return (
            f"group {self._group.name}, shard {self._group.shard.number}: {MOST_WAITING} events wait for earlier ones "
            "of their message, so only retries are handled: look at the errors of its delayed retries"
        )

    def count_waiting_retries(self) -> int:
        """Count the entries of the retry stream that wait."""
        return self.gate.waiting[Source.RETRY]

    @property
    def is_late(self) -> bool:
        """Whether another worker may have taken the shard, or is about to."""
        return self._heartbeat.is_late(self._generation)

    def is_closing(self, generation: int) -> bool:
        """Whether no further call may start: the worker is late, or gives the shard away."""
        return self._heartbeat.is_late(generation) or self._ownership.is_surplus

    async def take_shard(self) -> bool:
        """Take the shard if it is free, and prepare the gate. Raises RedisError."""
        generation = self._heartbeat.generation
        if not await self._ownership.take():
            return False
        self.gate.reset()
        self.claimer.restart()
        try:
            async for message, origin, seconds in self._delayed.read():
                self.gate.note_away(message, origin, time.monotonic() + seconds)
        except BaseException:
            self.leave_shard()  # else the shard would count for the share of this worker
            raise
        self._generation = generation
        return True

    def leave_shard(self) -> None:
        """Forget the shard and its entries: they were dropped, or settled."""
        self._ownership.forget()
        self.gate.reset()
        self._waiting.set(0)

    def require_shard(self, *, is_running: bool) -> None:
        """Raise OwnershipLost if this worker must drop the shard; a surplus one only once no call is running."""
        self._waiting.set(self.gate.waiting.total())
        if self._generation != self._heartbeat.generation:
            raise OwnershipLost("this worker missed its heartbeat")
        if self._ownership.is_surplus and not is_running:
            log.info("order.left", group=self._group.name, shard=self._group.shard.number)
            raise ShardSurplus

    def note_dropped(self, events: int) -> None:
        """Count the events of calls that are about to be cancelled, if another worker may have had them."""
        if self.is_late:
            self._overlaps.inc(events)

    async def admit(self, source: Source, entries: RawEntries, events: Sequence[StatusEvent]) -> list[int]:
        """Take entries, and return the places of those that have to wait. Raises RedisError.

        A worker that died had not called its handler with those that wait: they are free of suspicion.
        """
        entry_ids = [entry_id for entry_id, _ in entries]
        places = self.gate.admit(source, entry_ids, events)
        await self._poison.clear(source, [entry_ids[place] for place in places])
        return places

    async def load_due(self) -> dict[Source, RawEntries]:
        """Read waiting entries again that may go now. Raises RedisError, OwnershipLost."""
        loaded: dict[Source, RawEntries] = {}
        for source, entry_ids in self.gate.take_due(MOST_CLAIMED).items():
            keys, args = [self._group.streams[source]], [self._group.name, *entry_ids]
            entries: RawEntries = await self._load(keys=keys, args=args)
            self.gate.settle(source, set(entry_ids) - {entry_id for entry_id, _ in entries})
            loaded[source] = entries
        return loaded

    async def check_delayed(self) -> None:
        """Free the lanes whose delayed retry was removed, for example by `ackstream erase`. Raises RedisError."""
        started = time.monotonic()
        overdue = self.gate.find_overdue(started - OVERDUE_SECONDS) if started >= self._next_check else set()
        if not overdue:
            return
        overdue -= {(message, origin) async for message, origin, _ in self._delayed.read()}
        for message, origin in overdue & self.gate.find_overdue(started - OVERDUE_SECONDS):  # others failed again
            self.gate.remove_away(message, origin)
        self._next_check = time.monotonic() + CHECK_SHARE * (time.monotonic() - started)
