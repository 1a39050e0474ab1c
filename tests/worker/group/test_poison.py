"""The poison tracker finds the entry that kills workers, by halving and marks."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from runtime.tasks import cancel_and_wait
from stream.keys import Shard
from tests.support.fake_clock import FakeClock
from tests.support.samples.events import body
from tests.support.workers.parts import Parts, make_parts
from tests.support.workers.processing import RecordingHandler, append_and_read, count_unacked, process_entries
from worker.consumer.batch import Batch
from worker.events.event import StatusEvent
from worker.group.poison import MOST_DEATHS, SUSPECT_AFTER
from worker.handlers.function import SingleEventFunction
from worker.sources import Source
from worker.timing import TIMING

LIVE = Source.LIVE


async def take_over(parts: Parts, clock: FakeClock) -> list[tuple[bytes, list[bytes]]]:
    """Claim all entries of dead consumers."""
    for _ in range(6):
        clock.now += TIMING.beat
        await parts.heartbeat.beat()
    entries = []
    while claim := await parts.claimer.claim(1000):
        entries += claim[LIVE]
    return entries


def successor(server: Redis, shard: Shard, clock: FakeClock) -> Parts:
    return make_parts(server, shard, RecordingHandler(server, shard, alone=True), clock=clock)


def suspicions(parts: Parts, ids: Sequence[bytes]) -> list[tuple[int, int]]:
    records = [parts.poison.find(LIVE, entry_id) for entry_id in ids]
    return [(record.claims, record.deaths) for record in records]


async def test_two_crashes_make_an_entry_a_suspect(server: Redis, shard: Shard) -> None:
    """Two crashes make an entry a suspect; an orderly stop counts nothing."""
    clock = FakeClock()
    parts = successor(server, shard, clock)
    ids = [entry_id for entry_id, _ in await append_and_read(server, shard, parts.heartbeat, [b"a", b"b"])]
    suspects = []
    for number in range(4):
        if number == 1:
            await parts.heartbeat.leave()
        parts = successor(server, shard, clock)
        await take_over(parts, clock)
        suspects.append([parts.poison.find(LIVE, entry_id).is_suspect for entry_id in ids])
    assert SUSPECT_AFTER == 2
    assert suspects == [[False] * 2, [False] * 2, [True] * 2, [True] * 2]


@pytest.mark.parametrize("poison", [0, 3, 7])
async def test_the_poison_entry_is_found_by_halving(server: Redis, shard: Shard, poison: int) -> None:
    """Of eight entries only the poison one is dead-lettered; the others are handled."""
    clock, handled, deaths = FakeClock(), set[str](), 1
    payloads = [body(message_uuid=f"m-{number}") for number in range(8)]
    await append_and_read(server, shard, successor(server, shard, clock).heartbeat, payloads)
    while deaths < 20:
        killed = asyncio.Event()

        async def handle(event: StatusEvent, killed: asyncio.Event = killed) -> None:
            if event.message_uuid == f"m-{poison}":
                killed.set()
            if killed.is_set():
                await asyncio.sleep(3600)
            handled.add(event.message_uuid)

        parts = make_parts(server, shard, SingleEventFunction(handle, 60), clock=clock)
        entries = await take_over(parts, clock)
        batch = Batch.read(LIVE, entries, shard=0, generation=parts.heartbeat.generation)
        nothing_more = asyncio.get_running_loop().create_future()
        processing = asyncio.create_task(parts.processor.process([batch], nothing_more))
        dying = asyncio.create_task(killed.wait())
        await asyncio.wait([processing, dying], return_when=asyncio.FIRST_COMPLETED)
        await cancel_and_wait([processing, dying])
        await parts.processor.drop()
        if not killed.is_set():
            break
        deaths += 1
    letters: Any = await server.xrange(shard.dead("g"))
    ((_, letter),) = letters
    assert letter[b"error"] == b"poison: %d workers died while they handled only this entry" % MOST_DEATHS
    assert b"m-%d" % poison in letter[b"payload"]
    assert handled == {f"m-{number}" for number in range(8) if number != poison}
    assert deaths <= SUSPECT_AFTER + 3 + MOST_DEATHS
    assert await server.hgetall(shard.poison("g")) == {}


async def count_marks(server: Redis, shard: Shard) -> int:
    """Return how many workers have a mark."""
    names: Any = await server.hkeys(shard.poison("g"))
    return sum(name.startswith(b"mark:") for name in names)


async def test_the_mark_ends_with_its_calls(server: Redis, shard: Shard) -> None:
    """A crash after the marked calls have ended does not count against their entries."""
    clock = FakeClock()
    parts = successor(server, shard, clock)
    payloads = [b'{"message_uuid":"m","status":"read"}']
    ((entry_id, _),) = await append_and_read(server, shard, parts.heartbeat, payloads)
    for _ in range(SUSPECT_AFTER):
        parts = successor(server, shard, clock)
        entries = await take_over(parts, clock)
    marks = []

    async def handle(_event: StatusEvent) -> None:
        marks.append(await count_marks(server, shard))
        raise ValueError

    parts = make_parts(server, shard, SingleEventFunction(handle, 60), clock=clock, heartbeat=parts.heartbeat)
    parts.poison.note_claim(LIVE, [entry_id], [SUSPECT_AFTER, 0])
    await parts.processor._admit(Batch.read(LIVE, entries, shard=0, generation=parts.heartbeat.generation))  # noqa: SLF001
    while not parts.dispatcher.take():
        await parts.dispatcher.step()
    assert (marks, await count_marks(server, shard)) == ([1], 0)
    await parts.dispatcher.cancel()


async def test_a_lost_reply_loses_no_count(server: Redis, shard: Shard) -> None:
    """The claim script counts the crash, so the next claimer sees it even if the reply was lost."""
    clock = FakeClock()
    parts = successor(server, shard, clock)
    ids = [entry_id for entry_id, _ in await append_and_read(server, shard, parts.heartbeat, [b"a", b"b"])]
    await parts.poison.mark(parts.heartbeat.consumer, [(LIVE, ids[0])])
    lost = successor(server, shard, clock)
    await take_over(lost, clock)
    assert suspicions(lost, ids) == [(1, 1), (0, 0)]
    lost.heartbeat.renew()
    await lost.heartbeat.beat()
    after = successor(server, shard, clock)
    await take_over(after, clock)
    assert suspicions(after, ids) == [(1, 1), (0, 0)]


async def test_a_claim_is_bounded(server: Redis, shard: Shard) -> None:
    """One claim moves at most 250 entries, a batch at the greatest payload size."""
    clock = FakeClock()
    parts = successor(server, shard, clock)
    await append_and_read(server, shard, parts.heartbeat, [b"x"] * 600)
    parts = successor(server, shard, clock)
    for _ in range(6):
        clock.now += TIMING.beat
        await parts.heartbeat.beat()
    sizes = [len((await parts.claimer.claim(4000))[LIVE]) for _ in range(3)]
    assert sizes == [250, 250, 100]


@pytest.mark.parametrize(
    ("payload", "fields"),
    [(body(), []), (b"not a status", [b"signature", b"wrong"])],
    ids=["handled", "invalid and unverified"],
)
async def test_an_entry_is_acked_after_its_record_is_deleted(
    server: Redis, shard: Shard, payload: bytes, fields: list[bytes]
) -> None:
    """A fault between the two leaves the entry pending, not the record of a settled entry."""
    parts = successor(server, shard, FakeClock())
    appended = await append_and_read(server, shard, parts.heartbeat, [payload])
    entries = [(entry_id, flat + fields) for entry_id, flat in appended]
    parts.poison.note_claim(LIVE, [entry_id for entry_id, _ in entries], [1, 0])
    await server.set(shard.poison("g"), "not a hash")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await process_entries(parts.processor, entries, parts.heartbeat.generation)

    assert await count_unacked(server, shard) == 1
