import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from stream.probe import make_probe
from tests.support.fake_clock import FakeClock
from tests.support.samples.events import body, flat
from tests.support.streams.delayed import read_delayed
from tests.support.waiting import until
from tests.support.workers.parts import make_parts
from tests.support.workers.processing import RecordingHandler, append_and_read, count_unacked, process_entries
from worker.consumer.batch import Batch
from worker.consumer.processor import Processor
from worker.dispatch.call import Limits
from worker.events.event import StatusEvent
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat, RawEntries
from worker.group.poison import SUSPECT_AFTER
from worker.handlers.errors import Discard, Divide, Retry, Unavailable
from worker.handlers.function import SingleEventFunction
from worker.settle.ack_writer import BatchDropped
from worker.settle.delayed import DelayedRetries
from worker.settle.retry_policy import RetryPolicy
from worker.sources import Source
from worker.timing import TIMING


def processor(
    server: Redis,
    shard: Shard,
    heartbeat: Heartbeat,
    handler: RecordingHandler,
    *,
    stop: asyncio.Event | None = None,
    limits: Limits | None = None,
    policy: RetryPolicy | None = None,
) -> Processor:
    """Return a processor of group g, whose delays are half the longest ones."""
    timing = replace(TIMING, longest_away=0.2)
    more: Any = {"limits": limits, "policy": policy, "stop": stop, "heartbeat": heartbeat, "timing": timing}
    return make_parts(server, shard, handler, **more).processor


async def dead(server: Redis, shard: Shard) -> list[bytes]:
    """Return the errors of the dead letters."""
    letters: Any = await server.xrange(shard.dead("g"))
    return [fields[b"error"] for _, fields in letters]


async def test_invalid_entries_are_dead_lettered_and_the_rest_handled(server: Redis, shard: Shard) -> None:
    """Of one batch, valid payloads are handled; invalid ones and a foreign entry are dead-lettered."""
    heartbeat = Heartbeat(GroupRef(server, shard, "g"))
    recorder = RecordingHandler(server, shard)
    await server.xadd(shard.stream, {b"foreign": b"\xff"})
    payloads = [body(message_uuid="a"), b"\xff\xfe", body(message_uuid="b"), b"{}"]
    entries = await append_and_read(server, shard, heartbeat, payloads)
    await process_entries(processor(server, shard, heartbeat, recorder), entries, heartbeat.generation)
    assert recorder.seen == [["a", "b"]]
    assert await count_unacked(server, shard) == 0
    dead: Any = await server.xrange(shard.dead("g"))
    errors = [fields[b"error"].partition(b": ")[0] for _, fields in dead]
    assert errors == [b"invalid-entry", b"invalid-status", b"invalid-status"]
    assert dead[0][1][b"foreign"] == b"\xff"
    assert dead[1][1][b"payload"] == b"\xff\xfe"


async def test_settling_is_the_last_step(server: Redis, shard: Shard) -> None:
    """All entries are pending while the handler runs, so a crash loses none."""
    heartbeat = Heartbeat(GroupRef(server, shard, "g"))
    recorder = RecordingHandler(server, shard)
    entries = await append_and_read(server, shard, heartbeat, [body(), b"bad", body(status="read")])
    await process_entries(processor(server, shard, heartbeat, recorder), entries, heartbeat.generation)
    assert recorder.pending == [3]
    assert await count_unacked(server, shard) == 0


async def test_an_unavailable_target_costs_no_attempt(server: Redis, shard: Shard) -> None:
    """The batch stays pending and is repeated as a first attempt until the target is back."""
    heartbeat = Heartbeat(GroupRef(server, shard, "g"))
    failures = [Unavailable(), Unavailable()]
    recorder = RecordingHandler(server, shard, lambda _ids: failures.pop() if failures else None)
    entries = await append_and_read(server, shard, heartbeat, [body()])
    await process_entries(processor(server, shard, heartbeat, recorder), entries, heartbeat.generation)
    assert recorder.seen == [["m-1"]] * 3
    assert recorder.attempts == [1, 1, 1]
    assert recorder.pending == [1, 1, 1]
    assert await count_unacked(server, shard) == 0
    assert await read_delayed(server, shard, "g") == []


async def test_one_call_at_a_time_tests_an_unavailable_target(server: Redis, shard: Shard) -> None:
    """While the target is unavailable, only the running calls fail; then one call at a time tests it."""
    heartbeat = Heartbeat(GroupRef(server, shard, "g"))
    answers = [None, *[Unavailable()] * 6]
    recorder = RecordingHandler(server, shard, lambda _ids: answers.pop() if answers else None, alone=True)
    entries = await append_and_read(server, shard, heartbeat, [body(message_uuid=f"m-{n}") for n in range(50)])
    part = processor(server, shard, heartbeat, recorder, limits=Limits(concurrency=4))
    await process_entries(part, entries, heartbeat.generation)
    assert len(recorder.seen) == 56
    assert {ids[0] for ids in recorder.seen} == {f"m-{n}" for n in range(50)}
    assert await count_unacked(server, shard) == 0


async def test_a_stop_leaves_waiting_entries_pending(server: Redis, shard: Shard) -> None:
    """A worker that stops does not wait for an unavailable target; the entries stay pending."""
    heartbeat = Heartbeat(GroupRef(server, shard, "g"))
    stop = asyncio.Event()
    stop.set()
    entries = await append_and_read(server, shard, heartbeat, [body()])
    recorder = RecordingHandler(server, shard, lambda _ids: Unavailable())
    await process_entries(processor(server, shard, heartbeat, recorder, stop=stop), entries, heartbeat.generation)
    assert recorder.seen == [["m-1"]]
    assert await count_unacked(server, shard) == 1


async def test_a_worker_that_has_dropped_its_entries_is_ready(server: Redis, shard: Shard) -> None:
    """A worker that has dropped its entries waits for no target: another worker has them."""
    clock = FakeClock()
    recorder = RecordingHandler(server, shard, lambda _ids: Unavailable())
    parts = make_parts(server, shard, recorder, clock=clock)
    entries = await append_and_read(server, shard, parts.heartbeat, [body()])

    async def waits() -> bool:
        return parts.circuit.not_ready_reason == "group g waits for its target: Unavailable"

    processing = asyncio.create_task(process_entries(parts.processor, entries, parts.heartbeat.generation))
    await until(waits)
    clock.now += TIMING.late + 1
    with pytest.raises(BatchDropped):
        await processing
    await parts.processor.drop()

    assert parts.circuit.not_ready_reason is None
    assert await count_unacked(server, shard) == 1


@pytest.mark.parametrize("claims", [0, SUSPECT_AFTER])
@pytest.mark.parametrize("error", [None, Unavailable()])
async def test_no_call_starts_after_the_close(
    server: Redis, shard: Shard, claims: int, error: Unavailable | None
) -> None:
    """The running call is settled, or not repeated; the other entries stay pending, suspects without a mark."""
    closed, seen = asyncio.Event(), list[str]()
    errors = [error] if error else []

    async def handle(event: StatusEvent) -> None:
        seen.append(event.message_uuid)
        await closed.wait()
        if errors:
            raise errors.pop()

    async def is_running() -> bool:
        return bool(seen)

    parts = make_parts(server, shard, SingleEventFunction(handle, 60))
    payloads = [body(message_uuid=f"m-{n}") for n in range(8)]
    entries = await append_and_read(server, shard, parts.heartbeat, payloads)
    parts.poison.note_claim(Source.LIVE, [entry_id for entry_id, _ in entries], [claims, 0] * len(entries))

    processing = asyncio.create_task(process_entries(parts.processor, entries, parts.heartbeat.generation))
    await until(is_running)
    parts.processor.close()
    await processing
    finishing = asyncio.create_task(parts.processor.finish())
    await asyncio.sleep(0)  # lets it start
    closed.set()
    await finishing

    assert len(seen) == 1
    assert await count_unacked(server, shard) == (8 if error else 7)
    assert await server.hgetall(shard.poison("g")) == {}


async def test_failed_events_are_delayed_and_the_rest_is_acked(server: Redis, shard: Shard) -> None:
    """Each failed event gets the delay of the policy or of the handler, or is dead-lettered."""
    heartbeat = Heartbeat(GroupRef(server, shard, "g"))
    outcomes = {"b": ValueError("secret"), "c": Retry(60, "too early"), "d": Discard("not ours"), "e": SystemExit()}
    recorder = RecordingHandler(server, shard, lambda ids: outcomes.get(ids[0]), alone=True)
    entries = await append_and_read(server, shard, heartbeat, [body(message_uuid=name) for name in "abcde"])
    await process_entries(processor(server, shard, heartbeat, recorder), entries, heartbeat.generation)
    assert await count_unacked(server, shard) == 0
    assert await dead(server, shard) == [b"discarded: not ours"]
    waiting = await read_delayed(server, shard, "g")
    errors = [fields[b"error"].partition(b" at ")[0] for fields, _ in waiting]
    assert sorted(errors) == [b"failed: SystemExit", b"failed: ValueError", b"retry: too early"]
    assert {fields[b"attempt"] for fields, _ in waiting} == {b"1"}
    assert sorted(fields[b"origin"] for fields, _ in waiting) == [b"0/" + entries[n][0] for n in (1, 2, 4)]
    assert [seconds for _, seconds in waiting] == [pytest.approx(delay, abs=2) for delay in (2.5, 2.5, 60)]


async def test_after_the_last_attempt_it_is_dead_lettered(server: Redis, shard: Shard) -> None:
    """The copy counts the attempts; the dead letter has their number and the last error."""
    heartbeat = Heartbeat(GroupRef(server, shard, "g"))
    recorder = RecordingHandler(server, shard, lambda ids: None if ids == ["good"] else KeyError("447700900123"))
    parts = make_parts(server, shard, recorder, heartbeat=heartbeat, policy=RetryPolicy(base_seconds=0, attempts=3))
    part = parts.processor
    entries = await append_and_read(server, shard, heartbeat, [body()])
    await process_entries(part, entries, heartbeat.generation)
    await parts.settler.note_success(None)  # from now on the worker knows the server's clock
    while await server.zcard(shard.delayed("g")):
        await DelayedRetries(GroupRef(server, shard, "g")).promote()
        reply: Any = await server.xreadgroup("g", heartbeat.consumer, {shard.retry("g"): ">"})
        due: RawEntries = [(entry_id, flat(fields)) for entry_id, fields in reply[0][1]]
        good = await append_and_read(server, shard, heartbeat, [body(message_uuid="good")])
        await process_entries(part, good, heartbeat.generation)
        await process_entries(part, due, heartbeat.generation, Source.RETRY)
    attempts = [attempt for ids, attempt in zip(recorder.seen, recorder.attempts, strict=True) if ids != ["good"]]
    assert list(dict.fromkeys(attempts)) == [1, 2, 3]  # the last one again if no success is later for certain
    letters: Any = await server.xrange(shard.dead("g"))
    ((_, letter),) = letters
    assert letter[b"error"].partition(b" at ")[0] == b"attempts: failed: KeyError"
    assert (letter[b"attempt"], letter[b"origin"]) == (b"3", b"0/" + entries[0][0])
    assert await server.xlen(shard.retry("g")) == 0


async def test_a_list_with_a_bad_event_is_divided(server: Redis, shard: Shard) -> None:
    """A handler that raises Divide gets smaller lists until the bad event is alone; only that one is delayed."""
    heartbeat = Heartbeat(GroupRef(server, shard, "g"))
    recorder = RecordingHandler(server, shard, lambda ids: Divide() if "m-5" in ids else None)
    entries = await append_and_read(server, shard, heartbeat, [body(message_uuid=f"m-{n}") for n in range(8)])
    await process_entries(processor(server, shard, heartbeat, recorder), entries, heartbeat.generation)
    assert recorder.seen[1:3] == [[f"m-{n}" for n in range(4)], [f"m-{n}" for n in range(4, 8)]]
    assert ["m-5"] in recorder.seen
    assert await count_unacked(server, shard) == 0
    ((fields, _),) = await read_delayed(server, shard, "g")
    assert fields[b"origin"] == b"0/" + entries[5][0]


async def test_a_full_server_still_takes_delayed_retries(server: Redis, shard: Shard) -> None:
    """A failed event is delayed, and other events are handled, while Redis is out of memory."""
    heartbeat = Heartbeat(GroupRef(server, shard, "g"))
    recorder = RecordingHandler(server, shard, lambda ids: ValueError() if ids == ["a"] else None, alone=True)
    entries = await append_and_read(server, shard, heartbeat, [body(message_uuid="a"), body(message_uuid="b"), b"bad"])
    await server.config_set("maxmemory", 1)
    try:
        await process_entries(processor(server, shard, heartbeat, recorder), entries, heartbeat.generation)
    finally:
        await server.config_set("maxmemory", "1gb")
    assert await count_unacked(server, shard) == 0
    assert (len(await read_delayed(server, shard, "g")), len(await dead(server, shard))) == (1, 1)


class HeldHandler(RecordingHandler):
    """A handler whose calls end when the test allows it."""

    def __init__(self, server: Redis, shard: Shard) -> None:
        super().__init__(server, shard, alone=True)
        self.may_end = asyncio.Event()

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        await super().handle(events)
        await self.may_end.wait()


async def test_calls_that_ended_unnoticed_are_settled_at_a_stop(server: Redis, shard: Shard) -> None:
    """Calls that ended during the last read are settled at a stop, and not handled twice."""
    heartbeat = Heartbeat(GroupRef(server, shard, "g"))
    recorder = HeldHandler(server, shard)
    entries = await append_and_read(server, shard, heartbeat, [body(message_uuid=name) for name in "abc"])
    part = processor(server, shard, heartbeat, recorder, limits=Limits(concurrency=9))
    there_is_more = asyncio.get_running_loop().create_future()
    there_is_more.set_result(None)
    await part.process([Batch.read(Source.LIVE, entries, shard=0, generation=heartbeat.generation)], there_is_more)
    recorder.may_end.set()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
    assert await count_unacked(server, shard) == 3
    await part.finish()
    assert await count_unacked(server, shard) == 0


async def test_a_late_worker_settles_nothing(server: Redis, shard: Shard) -> None:
    """A late worker settles no entry, invalid ones included, because another may have claimed them."""
    heartbeat = Heartbeat(GroupRef(server, shard, "g"))
    entries = await append_and_read(server, shard, heartbeat, [body(), b"bad"])
    generation = heartbeat.generation
    heartbeat.renew()
    with pytest.raises(BatchDropped):
        await process_entries(processor(server, shard, heartbeat, RecordingHandler(server, shard)), entries, generation)
    assert await count_unacked(server, shard) == 2
    assert await server.xlen(shard.dead("g")) == 0


async def test_a_probe_is_acked_without_a_call(server: Redis, shard: Shard) -> None:
    """A self-test leaves nothing behind; an entry with its field but a status as payload is handled as ever."""
    probe, heartbeat = "0123456789abcdef" * 2, Heartbeat(GroupRef(server, shard, "g"))
    recorder = RecordingHandler(server, shard)
    entries = await append_and_read(server, shard, heartbeat, [body(message_uuid="a"), make_probe(probe)])
    marked: Any = [(entry_id, [*fields, b"probe", probe.encode()]) for entry_id, fields in entries]

    await process_entries(processor(server, shard, heartbeat, recorder), marked, heartbeat.generation)

    assert recorder.seen == [["a"]]
    assert await count_unacked(server, shard) == 0
    assert await server.exists(shard.dead("g"), shard.history("g"), shard.delayed("g")) == 0
