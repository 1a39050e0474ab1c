"""A handler that records its calls, and batches for a processor that runs in the test."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream.keys import Shard
from tests.support.samples.events import entry, flat
from worker.consumer.batch import Batch
from worker.consumer.processor import Processor
from worker.events.event import StatusEvent
from worker.group.heartbeat import Heartbeat, RawEntries
from worker.sources import Source, streams


async def count_unacked(server: Redis, shard: Shard) -> int:
    """Count the pending live entries of group `g`."""
    return int((await server.xpending(shard.stream, "g"))["pending"])


class RecordingHandler:
    """A handler that raises the error its test chose, and notes its calls and how many entries were pending."""

    def __init__(
        self,
        server: Redis,
        shard: Shard,
        fail: Callable[[Sequence[str]], BaseException | None] = lambda _ids: None,
        *,
        alone: bool = False,
    ) -> None:
        self._server = server
        self._shard = shard
        self._fail = fail
        self._alone = alone
        self.seen: list[list[str]] = []
        self.attempts: list[int] = []
        self.pending: list[int] = []

    def alone(self, _event: StatusEvent) -> bool:
        return self._alone

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        ids = [event.message_uuid for event in events]
        self.seen.append(ids)
        self.attempts += [event.attempt for event in events]
        self.pending.append(await count_unacked(self._server, self._shard))
        if (error := self._fail(ids)) is not None:
            raise error


async def append_and_read(server: Redis, shard: Shard, heartbeat: Heartbeat, payloads: Sequence[bytes]) -> RawEntries:
    """Append these payloads and read their entries as a consumer of group `g`."""
    for stream in streams(shard, "g").values():
        with suppress(ResponseError):  # the group exists
            await server.xgroup_create(stream, "g", "0", mkstream=True)
    await heartbeat.beat()
    for payload in payloads:
        fields: Any = entry(payload).to_fields()
        await server.xadd(shard.stream, fields)
    reply: Any = await server.xreadgroup("g", heartbeat.consumer, {shard.stream: ">"})
    entries: RawEntries = [(entry_id, flat(fields)) for entry_id, fields in reply[0][1]]
    return entries


async def process_entries(
    processor: Processor, entries: RawEntries, generation: int, source: Source = Source.LIVE
) -> None:
    """Process a batch of these entries; the reader has no further batch."""
    nothing_more = asyncio.get_running_loop().create_future()
    await processor.process([Batch.read(source, entries, shard=0, generation=generation)], nothing_more)
