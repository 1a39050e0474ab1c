"""Metrics and copies match the entries that a settlement wrote."""

from prometheus_client import REGISTRY
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.samples.events import body, entry, flat
from tests.support.workers.parts import make_parts
from tests.support.workers.processing import append_and_read, process_entries
from worker.consumer.batch import Batch
from worker.events.event import StatusEvent
from worker.handlers.errors import Discard
from worker.handlers.function import SingleEventFunction
from worker.sources import Source


async def fail(event: StatusEvent) -> None:
    """Fail or discard, by the message's id."""
    if event.message_uuid == "discard":
        raise Discard("not ours")
    raise ValueError


def read_counter(name: str, **labels: str) -> float:
    """Return the value of a counter."""
    return REGISTRY.get_sample_value(name, {"group": "g", **labels}) or 0.0


async def test_only_written_copies_are_counted(server: Redis, shard: Shard) -> None:
    """An entry that another worker has settled is not counted as delayed or dead-lettered."""
    parts = make_parts(server, shard, SingleEventFunction(fail, 60))
    payloads = [body(message_uuid=name) for name in ("discard", "a", "b")]
    entries = await append_and_read(server, shard, parts.heartbeat, payloads)
    await server.xack(shard.stream, "g", entries[0][0], entries[1][0])
    before = (
        read_counter("ackstream_events_delayed_total"),
        read_counter("ackstream_dead_letters_total", reason="discarded"),
    )
    await process_entries(parts.processor, entries, parts.heartbeat.generation)
    assert read_counter("ackstream_events_delayed_total") - before[0] == 1
    assert read_counter("ackstream_dead_letters_total", reason="discarded") == before[1]


def test_an_invalid_copy_keeps_its_origin() -> None:
    """A replayed dead letter with an invalid status keeps its origin."""
    fields = entry(b"no status", replay="r", origin="0/5-0").to_fields()
    batch = Batch.read(Source.REPLAY, [(b"9-0", flat(fields))], shard=0, generation=0)
    broken = Batch.read(Source.REPLAY, [(b"9-0", [b"origin", b"0/5-0", b"v", b"1"])], shard=0, generation=0)
    assert [copy.fields[b"origin"] for copy in (*batch.invalid, *broken.invalid)] == [b"0/5-0", b"0/5-0"]


def test_a_malformed_origin_is_ignored() -> None:
    """A malformed origin is replaced by the id of the entry."""
    for origin in (b"", b"0/5", b"\xff", b"0/5-0\n"):
        fields = {**entry(body()).to_fields(), b"origin": origin}
        batch = Batch.read(Source.LIVE, [(b"9-0", flat(fields))], shard=0, generation=0)
        assert [copy.fields[b"origin"] for copy in batch.invalid] == [b"0/9-0"]
