import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.events import body, entry
from worker.liveness import Liveness, RawEntries
from worker.processor import BatchDropped, Handler, Processor
from worker.settle import Settler
from worker.status import StatusEvent


class Recorder:
    """A handler that fails as often as it is told to, and notes what it saw and what was pending then."""

    def __init__(self, server: Redis, shard: Shard, failures: int = 0) -> None:
        self._server = server
        self._shard = shard
        self._failures = failures
        self.seen: list[list[str]] = []
        self.pending: list[int] = []

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        self.seen.append([event.message_uuid for event in events])
        self.pending.append(await pending(self._server, self._shard))
        if self._failures > 0:
            self._failures -= 1
            raise ConnectionRefusedError


async def pending(server: Redis, shard: Shard) -> int:
    return int((await server.xpending(shard.stream, "g"))["pending"])


async def read(server: Redis, shard: Shard, liveness: Liveness, payloads: Sequence[bytes]) -> RawEntries:
    """These payloads, appended and read."""
    await server.xgroup_create(shard.stream, "g", "0", mkstream=True)
    await liveness.beat()
    for payload in payloads:
        fields: Any = entry(payload).to_fields()
        await server.xadd(shard.stream, fields)
    reply: Any = await server.xreadgroup("g", liveness.consumer, {shard.stream: ">"})
    entries: RawEntries = reply[0][1]
    return entries


async def process(own: Processor, entries: RawEntries, generation: int) -> None:
    await own.process(own.parse(entries, generation))


def processor(
    server: Redis, shard: Shard, liveness: Liveness, handler: Handler, stop: asyncio.Event | None = None
) -> Processor:
    return Processor(shard.number, "g", handler, Settler(server, shard, "g"), liveness, stop or asyncio.Event())


async def test_what_cannot_be_parsed_is_buried_and_the_rest_proceeds(server: Redis, shard: Shard) -> None:
    """One batch with good payloads, bad ones and a foreign entry: all are settled, each in its way."""
    liveness = Liveness(server, shard, "g")
    recorder = Recorder(server, shard)
    await server.xadd(shard.stream, {b"foreign": b"\xff"})
    payloads = [body(message_uuid="a"), b"\xff\xfe", body(message_uuid="b"), b"{}"]
    entries = await read(server, shard, liveness, payloads)
    await process(processor(server, shard, liveness, recorder), entries, liveness.generation)
    assert recorder.seen == [["a", "b"]]
    assert await pending(server, shard) == 0
    dead: Any = await server.xrange(shard.dead("g"))
    errors = [fields[b"error"].partition(b": ")[0] for _, fields in dead]
    assert errors == [b"invalid-entry", b"invalid-status", b"invalid-status"]
    assert dead[0][1][b"foreign"] == b"\xff"
    assert dead[1][1][b"payload"] == b"\xff\xfe"


async def test_settling_is_the_last_step(server: Redis, shard: Shard) -> None:
    """While the handler works everything is still pending; a death there loses nothing."""
    liveness = Liveness(server, shard, "g")
    recorder = Recorder(server, shard)
    entries = await read(server, shard, liveness, [body(), b"bad", body(status="read")])
    await process(processor(server, shard, liveness, recorder), entries, liveness.generation)
    assert recorder.pending == [3]
    assert await pending(server, shard) == 0


async def test_a_batch_that_fails_is_handled_again_until_it_succeeds(server: Redis, shard: Shard) -> None:
    """Whatever the handler raises, nothing is acked or buried before it has returned."""
    liveness = Liveness(server, shard, "g")
    recorder = Recorder(server, shard, failures=2)
    entries = await read(server, shard, liveness, [body()])
    await process(processor(server, shard, liveness, recorder), entries, liveness.generation)
    assert recorder.seen == [["m-1"]] * 3
    assert recorder.pending == [1, 1, 1]
    assert await pending(server, shard) == 0
    assert await server.xlen(shard.dead("g")) == 0


async def test_at_a_stop_a_failing_batch_is_left_pending(server: Redis, shard: Shard) -> None:
    """A worker that is told to stop does not wait for a database that is away."""
    liveness = Liveness(server, shard, "g")
    stop = asyncio.Event()
    stop.set()
    entries = await read(server, shard, liveness, [body()])
    with pytest.raises(BatchDropped):
        await process(
            processor(server, shard, liveness, Recorder(server, shard, failures=99), stop), entries, liveness.generation
        )
    assert await pending(server, shard) == 1


async def test_a_late_worker_settles_nothing(server: Redis, shard: Shard) -> None:
    """What was read before the consumer was late may be in other hands: it stays pending, dead letters included."""
    liveness = Liveness(server, shard, "g")
    entries = await read(server, shard, liveness, [body(), b"bad"])
    generation = liveness.generation
    liveness.renew()
    with pytest.raises(BatchDropped):
        await process(processor(server, shard, liveness, Recorder(server, shard)), entries, generation)
    assert await pending(server, shard) == 2
    assert await server.xlen(shard.dead("g")) == 0


async def test_an_entry_deleted_while_pending_is_acked(server: Redis, shard: Shard) -> None:
    """Redis gives such an entry without fields: nothing is left to handle."""
    liveness = Liveness(server, shard, "g")
    recorder = Recorder(server, shard)
    entries = await read(server, shard, liveness, [body(message_uuid="a"), body(message_uuid="b")])
    gone: RawEntries = [(entries[0][0], None), entries[1]]
    await process(processor(server, shard, liveness, recorder), gone, liveness.generation)
    assert recorder.seen == [["b"]]
    assert await pending(server, shard) == 0
