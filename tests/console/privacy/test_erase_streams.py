"""`erase` while workers read the same streams."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from console.privacy import in_flight
from console.privacy.in_flight import EntryRemover
from console.privacy.place import Unreachable
from stream.keys import Shard
from tests.support.streams.losses import NOTHING, count_missing
from tests.support.streams.pending import count_pending, make_group, read_new_entries
from tests.support.streams.retention import read_ids
from tests.support.waiting import until
from worker.retention.ack_floor import AckFloor
from worker.retention.trimmer import Trimmer
from worker.timing import TIMING


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker counts as alive for a quarter of an hour after its heartbeat, however busy the machine is."""
    monkeypatch.setattr(in_flight, "TIMING", TIMING.scale(100))


@pytest.mark.usefixtures("_patient")
async def test_an_entry_in_flight_is_erased_when_its_worker_has_settled_it(server: Redis, shard: Shard) -> None:
    """While the worker's heartbeat moves the entry stays, so the handler cannot write it after it is erased."""
    first, second = await read_new_entries(server, shard, 2)
    await server.hincrby(shard.alive("g"), "c", 1)
    removal = asyncio.create_task(EntryRemover(server, shard).remove(shard.stream, [first, second]))

    await server.xack(shard.stream, "g", first)
    await until(lambda: _has_entries(server, shard, 1))
    assert not removal.done()
    await server.xack(shard.stream, "g", second)

    assert await removal == 2


@pytest.mark.usefixtures("_patient")
async def test_an_entry_that_stays_in_flight_is_reported(server: Redis, shard: Shard) -> None:
    """After the wait the others are erased, and the error has their number and the next step."""
    (held,) = await read_new_entries(server, shard, 1)
    free: Any = await server.xadd(shard.stream, {b"n": b"1"})
    await server.hincrby(shard.alive("g"), "c", 1)

    with pytest.raises(Unreachable, match=r"1 entries .* run the command again") as raised:
        await EntryRemover(server, shard, wait_seconds=0).remove(shard.stream, [held, free])

    assert (raised.value.erased, await server.xlen(shard.stream)) == (1, 1)


async def test_a_dead_worker_holds_up_neither_the_erasure_nor_its_group(server: Redis, shard: Shard) -> None:
    """The pending id goes with the entry: the ack floor passes it, and another worker finds nothing to claim."""
    await server.sadd(shard.groups, "g")
    ids = await read_new_entries(server, shard, 3)

    assert await EntryRemover(server, shard).remove(shard.stream, ids[:2]) == 2

    assert await count_pending(server, shard) == 1
    survey = await AckFloor(server, shard).survey()
    assert survey.groups[0].floor.redis == ids[2].decode()
    assert await EntryRemover(server, shard).remove(shard.stream, ids) == 1
    assert await count_pending(server, shard) == 0


async def test_erased_entries_are_not_reported_as_lost(server: Redis, shard: Shard) -> None:
    """The loss account counts them, also when a trimmer records the account that it read before the erasure."""
    await make_group(server, shard, 100)
    trimmer, floor = Trimmer(server, shard, NOTHING, None), AckFloor(server, shard)
    assert await count_missing(trimmer) == 0
    ids = await read_ids(server, shard)
    assert await EntryRemover(server, shard).remove(shard.stream, ids[:10]) == 10
    assert await count_missing(trimmer) == 0

    await server.xadd(shard.stream, {b"n": b"101"})
    survey = await floor.survey()
    assert await EntryRemover(server, shard).remove(shard.stream, ids[10:15]) == 5
    token: Any = await server.get(shard.trimmer)
    await floor.record(token.decode(), survey)

    assert await count_missing(trimmer) == 0
    await server.xdel(shard.stream, ids[20])
    assert await count_missing(trimmer) == 1


async def test_unread_entries_are_erased_before_their_group_reads_them(server: Redis, shard: Shard) -> None:
    """A group reads on after an erased entry."""
    await make_group(server, shard, 3)
    ids = await read_ids(server, shard)

    assert await EntryRemover(server, shard).remove(shard.stream, ids[1:2]) == 1

    reply: Any = await server.xreadgroup("g", "c", {shard.stream: ">"})
    assert [entry_id for entry_id, _ in reply[0][1]] == [ids[0], ids[2]]


async def _has_entries(server: Redis, shard: Shard, number: int) -> bool:
    return await server.xlen(shard.stream) == number
