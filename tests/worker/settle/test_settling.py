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
    """A handler of lists that notes them."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def alone(self, _event: StatusEvent) -> bool:
        return False

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        self.seen.append([event.message_uuid for event in events])


class DedupProcessor:
    """A processor of group g that recognises repeats, with what its handler has seen."""

    def __init__(self, server: Redis, shard: Shard) -> None:
        self._server = server
        self._shard = shard
        self._noting = Noting()
        parts = make_parts(server, shard, self._noting, memory=HOUR)
        self._heartbeat, self.processor = parts.heartbeat, parts.processor

    async def read(self, *payloads: bytes) -> RawEntries:
        """Append these and read them."""
        if not await self._server.exists(self._shard.stream):
            return await append_and_read(self._server, self._shard, self._heartbeat, payloads)
        for payload in payloads:
            fields: Any = entry(payload).to_fields()
            await self._server.xadd(self._shard.stream, fields)
        reply: Any = await self._server.xreadgroup("g", self._heartbeat.consumer, {self._shard.stream: ">"})
        entries: RawEntries = [(entry_id, flat(fields)) for entry_id, fields in reply[0][1]]
        return entries

    async def process(self, entries: RawEntries, *, more: bool) -> None:
        """Process what was read, while there is more that has been read already, or not."""
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
async def nothing_is_written(server: Redis) -> AsyncIterator[None]:
    """Meanwhile the server lets writes wait, and answers what is only read."""
    await server.execute_command("CLIENT PAUSE", 20_000, "WRITE")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        await server.execute_command("CLIENT UNPAUSE")  # type: ignore[no-untyped-call]


async def test_the_next_is_handled_while_the_last_is_settled(server: Redis, shard: Shard, site: DedupProcessor) -> None:
    """And what repeats an event that is being settled is not handled: nobody has to know yet which was first."""
    await site.process(await site.read(body(message_uuid="x")), more=False)  # by now the server knows the scripts
    first = await site.read(body(message_uuid="a"), body(message_uuid="b"))
    second = await site.read(body(message_uuid="b"), body(message_uuid="c"))
    async with nothing_is_written(server):
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


async def test_with_nothing_more_to_read_it_waits_for_the_settling(
    server: Redis, shard: Shard, site: DedupProcessor
) -> None:
    """What has returned then is settled."""
    await site.process(await site.read(body()), more=False)
    assert await count_unacked(server, shard) == 0


@pytest.mark.parametrize("more", [False, True])
async def test_what_the_settling_meets_is_raised(
    server: Redis, shard: Shard, site: DedupProcessor, *, more: bool
) -> None:
    """At once, or where the next batch would be settled."""
    first, second = await site.read(body(message_uuid="a")), await site.read(body(message_uuid="b"))
    await server.set(shard.stream, "no stream")
    processing = site.process(first, more=more)
    if more:
        await processing
        processing = site.process(second, more=True)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await processing
