"""Workers of one group in order mode without their loops: a test says what each of them does next."""

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from stream.entry import EntryId, fields_from_flat
from stream.keys import Shard
from tests.support.fake_clock import FakeClock
from tests.support.samples.events import body, entry
from worker.consumer.batch import Batch
from worker.consumer.ordered_fetcher import OrderedFetcher
from worker.dispatch.backlog import Backlog
from worker.events.event import StatusEvent
from worker.group.consumer_group import create_group
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat
from worker.group.poison import PoisonTracker
from worker.order.fence import OwnershipLost
from worker.order.message_order import MessageOrder
from worker.settle.ack_writer import AckWriter, BatchDropped
from worker.settle.copies import Copy
from worker.settle.delayed import DelayedRetries
from worker.settle.history import History
from worker.settle.retry_policy import Disposition, Failure
from worker.settle.settler import Settler
from worker.sources import Source
from worker.timing import TIMING

GROUP = "g"
BEATS = 6

Taken = tuple[bytes, list[bytes], StatusEvent]


@dataclass(slots=True)
class Observed:
    """The calls that the handlers of all workers had."""

    latest: dict[str, EntryId] = field(default_factory=dict)
    starts: int = 0
    handled: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class OrderedWorker:
    """One worker. Its clock moves only while it does, as if it stopped right after it had looked at the clock."""

    def __init__(self, server: Redis, shard: Shard, observed: Observed, shards: int = 1) -> None:
        self.clock = FakeClock()
        self.group = GroupRef(server, shard, GROUP)
        self.heartbeat = Heartbeat(self.group, self.clock)
        self.poison = PoisonTracker(self.group)
        self.owned: set[int] = set()
        self.order = MessageOrder(self.group, self.heartbeat, self.poison, self.owned, lambda: shards)
        self.fetcher = OrderedFetcher(self.group, self.heartbeat, 20, self.order.fence)
        settler = Settler(self.group, fence=self.order.fence)
        measure = Backlog(self.group).measure
        gate = self.order.gate
        self.writer = AckWriter(
            GROUP, settler, History(self.group), self.heartbeat, self.poison, measure, lambda: None, gate
        )
        self.observed = observed
        self.is_owner = self.is_stalled = False
        self.others: list[OrderedWorker] = []
        self.running: dict[tuple[Source, bytes], Taken] = {}

    async def work(self) -> None:
        """Do one step: a heartbeat, then take the shard, claim, or read."""
        await self.heartbeat.beat()
        try:
            if not self.is_owner:
                self.is_owner = await self.order.take_shard()
                return
            self.order.require_shard(is_running=bool(self.running))
            await self._start(await self.order.load_due())
            entries: Any = await self.order.claimer.claim(3)
            if not entries:
                _, entries = await self.fetcher.read(prefetch=False, seconds=0)
            await self._start(entries)
        except OwnershipLost:
            self.drop()

    async def end(self, number: int, *, fails: bool) -> None:
        """End one of the running calls and settle it; a member that is late drops everything instead."""
        if not self.running:
            return
        source, entry_id = list(self.running)[number % len(self.running)]
        entry_id, flat, event = self.running.pop((source, entry_id))
        settlement = self.writer.next_settlement(source)
        if fails:
            failure, disposition = Failure("ValueError", "", "", 0), Disposition("failed: ValueError", 0.0)
            settlement.copies.append(
                Copy.from_failure(
                    entry_id,
                    fields_from_flat(flat),
                    origin=event.entry,
                    attempt=event.attempt,
                    disposition=disposition,
                    failure=failure,
                )
            )
        else:
            settlement.acks.append(entry_id)
        try:
            await self.writer.write(self.heartbeat.generation)
            await self.writer.wait_until_written()
        except (BatchDropped, OwnershipLost):
            self.drop()
            return
        if not fails:
            self.observed.handled.append(event.entry)

    def drop(self) -> None:
        """Drop all entries in flight, as a consumer does."""
        self.running.clear()
        self.is_owner = self.is_stalled = False
        self.order.leave_shard()
        self.heartbeat.renew()

    async def _start(self, entries: Any) -> None:
        shard = self.group.shard.number
        for source, raw in entries.items():
            batch = Batch.read(source, raw, shard=shard, generation=self.heartbeat.generation)
            waiting = await self.order.admit(source, batch.entries, batch.events)
            for place, ((entry_id, flat), event) in enumerate(zip(batch.entries, batch.events, strict=True)):
                if place not in waiting:
                    self._call(source, (entry_id, flat, event))

    def _call(self, source: Source, taken: Taken) -> None:
        event, latest = taken[2], self.observed.latest
        origin = EntryId.from_text(event.entry)
        active = [self, *(other for other in self.others if not other.is_stalled)]
        if any(taken[2].message_uuid == event.message_uuid for other in active for taken in other.running.values()):
            self.observed.faults.append(f"{event.entry} at once with another event of {event.message_uuid}")
        if event.message_uuid in latest and origin < latest[event.message_uuid]:
            self.observed.faults.append(f"{event.entry} after {latest[event.message_uuid]}")
        self.observed.starts += 1
        latest[event.message_uuid] = max(origin, latest.get(event.message_uuid, origin))
        self.running[source, taken[0]] = taken


@dataclass(slots=True)
class OrderedWorkers:
    """Three workers on one shard, and their calls."""

    server: Redis
    shard: Shard
    observed: Observed
    members: list[OrderedWorker]
    appended: list[str] = field(default_factory=list)
    numbers: Any = field(default_factory=itertools.count)

    @classmethod
    async def make(cls, server: Redis, shard: Shard, number: int = 3) -> "OrderedWorkers":
        await create_group(GroupRef(server, shard, GROUP))
        observed = Observed()
        members = [OrderedWorker(server, shard, observed) for _ in range(number)]
        for member in members:
            member.others = [other for other in members if other is not member]
        return cls(server, shard, observed, members)

    async def append(self, message: str) -> None:
        fields: Any = entry(body(message_uuid=message, client_ref=str(next(self.numbers)))).to_fields()
        entry_id: Any = await self.server.xadd(self.shard.stream, fields)
        self.appended.append(f"{self.shard.number}/{entry_id.decode()}")

    async def promote(self) -> None:
        """Move the delayed retries to the retry stream."""
        await DelayedRetries(GroupRef(self.server, self.shard, GROUP)).promote()

    async def stop(self, number: int) -> None:
        """Let a member stall until the others find it dead."""
        self.members[number].is_stalled = True
        for _ in range(BEATS):
            for member in self.members[number].others:
                member.clock.now += TIMING.beat
                await member.heartbeat.beat()

    async def finish(self) -> None:
        """Let the members handle everything. Fails if they do not."""
        deadline = time.monotonic() + 60
        while len(set(self.observed.handled)) < len(self.appended):
            assert time.monotonic() < deadline, f"{set(self.appended) - set(self.observed.handled)} not handled"
            await self.promote()
            for member in [member for member in self.members if member.is_owner] or self.members:
                await member.work()
                while member.running:
                    await member.end(0, fails=False)
