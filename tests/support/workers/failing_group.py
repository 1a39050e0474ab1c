"""A group in the test's own process whose handler fails until the test repairs it."""

from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.samples.events import entry, flat
from tests.support.streams.replayed_stream import run_beside
from tests.support.waiting import until
from tests.support.workers.parts import GROUP, make_parts
from tests.support.workers.processing import process_entries
from worker.events.event import StatusEvent
from worker.group.consumer_group import ConsumerGroup
from worker.group.group_ref import GroupRef
from worker.handlers.function import SingleEventFunction
from worker.replay.job import State
from worker.replay.repository import Replays
from worker.replay.scheduler import ReplayScheduler
from worker.settle.delayed import DelayedRetries
from worker.settle.retry_policy import RetryPolicy
from worker.sources import Source


class FailingGroup:
    """Group ``g``: its handler raises ValueError for the messages in ``fails``, and gives up at the third attempt."""

    def __init__(self, server: Redis, shard: Shard, *fails: str, delay_seconds: float = 0) -> None:
        self.ref = GroupRef(server, shard, GROUP)
        self.fails = set(fails)
        policy = RetryPolicy(base_seconds=delay_seconds, attempts=3)
        self._parts = make_parts(server, shard, SingleEventFunction(self._handle, 60), policy=policy)

    async def _handle(self, event: StatusEvent) -> None:
        if event.message_uuid in self.fails:
            raise ValueError(f"no route to {event.to}")

    async def start(self) -> None:
        """Create the group at the start of the stream."""
        await ConsumerGroup(self.ref).ensure()
        await self._parts.heartbeat.beat()

    async def append(self, payload: bytes, **options: Any) -> str:
        """Append an entry, and return its id as people see it."""
        fields: Any = entry(payload, **options).to_fields()
        entry_id: Any = await self.ref.server.xadd(self.ref.shard.stream, fields)
        return f"{self.ref.shard.number}/{entry_id.decode()}"

    async def handle(self, source: Source = Source.LIVE) -> int:
        """Read and process the unread entries of a stream; return their number."""
        if source is Source.RETRY:
            await DelayedRetries(self.ref).promote()
        stream = self.ref.streams[source]
        reply: Any = await self.ref.server.xreadgroup(GROUP, self._parts.heartbeat.consumer, {stream: ">"})
        entries = [(entry_id, flat(fields)) for entry_id, fields in reply[0][1]] if reply else []
        if entries:
            await process_entries(self._parts.processor, entries, self._parts.heartbeat.generation, source)
        return len(entries)

    async def give_up(self) -> None:
        """Retry until the failing messages are dead letters."""
        while not await self.ref.server.xlen(self.ref.dead):
            await self.succeed()
            await self.handle(Source.RETRY)

    async def succeed(self) -> None:
        """Handle a message that shows that the target is up, and publish this as another worker does."""
        await self.append(b'{"message_uuid":"ok","status":"delivered"}')
        await self.handle()
        seconds, microseconds = await self.ref.server.time()
        await self.ref.server.set(self.ref.succeeded, 1000 * seconds + microseconds // 1000)

    async def copy_replays(self) -> None:
        """Copy the entries of all replays that run."""
        replays = Replays(self.ref)

        async def are_done() -> bool:
            return all(progress.state is not State.RUNNING for progress in await replays.all())

        await run_beside([ReplayScheduler(self.ref, None, poll_seconds=0.02, lease_ms=300)], until(are_done))
