import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream.keys import Shard
from tests.support.samples.events import body, entry, flat
from tests.support.waiting import until
from tests.support.workers.parts import make_parts
from tests.support.workers.processing import append_and_read, count_unacked
from worker.consumer.batch import Batch
from worker.events.event import StatusEvent
from worker.group.heartbeat import RawEntries
from worker.settle.dedup import DedupWindow
from worker.sources import Source

HOUR = DedupWindow(3600, 1000)


class Noting:
    """A list handler that records its lists."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def alone(self, _event: StatusEvent) -> bool:
        return False

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        self.seen.append([event.message_uuid for event in events])


class DedupProcessor:
    """A processor of group g with dedup, and the events of its handler."""

    def __init__(self, server: Redis, shard: Shard) -> None:
        self._server = server
        self._shard = shard
        self._noting = Noting()
        parts = make_parts(server, shard, self._noting, memory=HOUR)
        self._heartbeat, self.processor = parts.heartbeat, parts.processor

    async def read(self, *payloads: bytes) -> RawEntries:
        """Append payloads and read them."""
        if not await self._server.exists(self._shard.stream):
            return await append_and_read(self._server, self._shard, self._heartbeat, payloads)
        for payload in payloads:
            fields: Any = entry(payload).to_fields()
            await self._server.xadd(self._shard.stream, fields)
        reply: Any = await self._server.xreadgroup("g", self._heartbeat.consumer, {self._shard.stream: ">"})
        entries: RawEntries = [(entry_id, flat(fields)) for entry_id, fields in reply[0][1]]
        return entries

    async def process(self, entries: RawEntries, *, more: bool) -> None:
        """Process entries, with or without a finished next read."""
        reading = asyncio.get_running_loop().create_future()
        if more:
            reading.set_result(None)
        batch = Batch.read(Source.LIVE, entries, shard=0, generation=self._heartbeat.generation)
        await self.processor.process([batch], reading)

    @property
    def seen(self) -> list[list[str]]:
        return self._noting.seen


@pytest.fixture
async def site(server: Redis, shard: Shard) -> AsyncIterator[DedupProcessor]:
    site = DedupProcessor(server, shard)
    yield site
    await site.processor.drop()


@asynccontextmanager
async def pause_writes(server: Redis) -> AsyncIterator[None]:
    """Pause writes on the server while the block runs; reads still work."""
    await server.execute_command("CLIENT PAUSE", 20_000, "WRITE")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        await server.execute_command("CLIENT UNPAUSE")  # type: ignore[no-untyped-call]


async def test_the_next_batch_is_handled_while_the_last_is_settled(
    server: Redis, shard: Shard, site: DedupProcessor
) -> None:
    """The next batch is handled while the last one is settled; repeats of events in that write are skipped."""
    await site.process(await site.read(body(message_uuid="x")), more=False)  # the server knows the scripts now
    first = await site.read(body(message_uuid="a"), body(message_uuid="b"))
    second = await site.read(body(message_uuid="b"), body(message_uuid="c"))
    async with pause_writes(server):
        await site.process(first, more=True)
        processing = asyncio.create_task(site.process(second, more=True))

        async def both_are_seen() -> bool:
            return len(site.seen) == 3

        await until(both_are_seen)
        assert site.seen[1:] == [["a", "b"], ["c"]]
        assert await count_unacked(server, shard) == 4
    await processing
    await site.processor.finish()
    assert await count_unacked(server, shard) == 0


async def test_without_a_next_read_it_waits_for_the_write(server: Redis, shard: Shard, site: DedupProcessor) -> None:
    """Without a next read, ``process`` returns once all entries are settled."""
    await site.process(await site.read(body()), more=False)
    assert await count_unacked(server, shard) == 0


@pytest.mark.parametrize("more", [False, True])
async def test_an_error_of_the_write_is_raised(
    server: Redis, shard: Shard, site: DedupProcessor, *, more: bool
) -> None:
    """An error of the write is raised at once, or when the next batch is settled."""
    first, second = await site.read(body(message_uuid="a")), await site.read(body(message_uuid="b"))
    await server.set(shard.stream, "no stream")
    processing = site.process(first, more=more)
    if more:
        await processing
        processing = site.process(second, more=True)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await processing
