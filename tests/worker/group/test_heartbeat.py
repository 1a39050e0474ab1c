import asyncio

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.fake_clock import FakeClock
from tests.support.streams.pending import make_group
from worker.group.claim import Claimer
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat, RawEntries
from worker.group.poison import PoisonTracker
from worker.sources import Source, streams
from worker.timing import TIMING


async def read(server: Redis, shard: Shard, heartbeat: Heartbeat) -> None:
    await server.xreadgroup("g", heartbeat.consumer, {shard.stream: ">"}, count=100)


class Consumer(Heartbeat):
    """A consumer with a heartbeat and a claimer."""

    def __init__(self, group: GroupRef, clock: "FakeClock") -> None:
        super().__init__(group, clock)
        self._claimer = Claimer(group, self, PoisonTracker(group))

    async def claim(self, limit: int) -> dict[Source, RawEntries]:
        return await self._claimer.claim(limit)


async def count_claimed(consumer: Consumer, limit: int) -> int:
    """Claim entries, and return how many live ones there were."""
    return len((await consumer.claim(limit))[Source.LIVE])


async def holders(server: Redis, shard: Shard) -> dict[str, int]:
    return {
        consumer["name"].decode(): consumer["pending"] for consumer in await server.xinfo_consumers(shard.stream, "g")
    }


async def pass_time(clock: FakeClock, seconds: float, *beating: Heartbeat) -> None:
    """Move the clock in steps in which these consumers send heartbeats."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now = min(clock.now + TIMING.beat, end)
        for heartbeat in beating:
            await heartbeat.beat()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def reader(server: Redis, shard: Shard, clock: FakeClock) -> Consumer:
    """Return a consumer that has a heartbeat, and has read the five entries of the group."""
    await make_group(server, shard, 5)
    reader = Consumer(GroupRef(server, shard, "g"), clock)
    await reader.beat()
    await read(server, shard, reader)
    return reader


@pytest.fixture
def second(server: Redis, shard: Shard, clock: FakeClock) -> Consumer:
    """Return another consumer of the group, without a heartbeat yet."""
    return Consumer(GroupRef(server, shard, "g"), clock)


async def test_the_entries_of_a_dead_consumer_are_claimed(
    server: Redis, shard: Shard, clock: FakeClock, reader: Consumer, second: Consumer
) -> None:
    """If a counter does not move for ``Timing.dead``, another consumer claims the entries and removes the dead one."""
    await second.beat()
    await pass_time(clock, TIMING.dead - 1, second)
    assert await second.claim(100) == {}
    assert await holders(server, shard) == {reader.consumer: 5}
    await pass_time(clock, 1 + TIMING.beat, second)
    assert [fields for _, fields in (await second.claim(3))[Source.LIVE]] == [[b"n", b"%d" % n] for n in range(3)]
    assert await count_claimed(second, 3) == 2
    assert await second.claim(3) == {}
    assert await holders(server, shard) == {second.consumer: 5}
    assert list(await server.hgetall(shard.alive("g"))) == [second.consumer.encode()]


async def test_a_living_consumer_is_left_alone(
    server: Redis, shard: Shard, clock: FakeClock, reader: Consumer, second: Consumer
) -> None:
    """While its counter moves, no entry of a consumer is claimed, even if it never reads."""
    await pass_time(clock, 4 * TIMING.dead, reader, second)
    assert await second.claim(100) == {}
    assert (await holders(server, shard))[reader.consumer] == 5


async def test_the_entries_of_a_consumer_that_left_are_claimed_at_once(reader: Consumer, second: Consumer) -> None:
    """After an orderly stop the next heartbeat of another consumer finds the entries to claim."""
    await reader.leave()
    await second.beat()
    assert await count_claimed(second, 100) == 5


async def test_a_consumer_that_revives_before_the_claim_keeps_its_entries(
    server: Redis, shard: Shard, clock: FakeClock, reader: Consumer, second: Consumer
) -> None:
    """The claim script checks the counter again, and claims nothing if it has moved."""
    await pass_time(clock, TIMING.dead + TIMING.beat, second)
    await server.hincrby(shard.alive("g"), reader.consumer, 1)
    assert await second.claim(100) == {}
    assert (await holders(server, shard))[reader.consumer] == 5


async def test_a_late_consumer_takes_a_new_name(server: Redis, shard: Shard) -> None:
    """Entries that a consumer read before it was late count as lost, before and after its next heartbeat."""
    clock = FakeClock()
    await make_group(server, shard, 1)
    heartbeat = Consumer(GroupRef(server, shard, "g"), clock)
    assert heartbeat.is_late(heartbeat.generation)
    await heartbeat.beat()
    generation, name = heartbeat.generation, heartbeat.consumer
    assert not heartbeat.is_late(generation)
    clock.now += TIMING.late + 1
    assert heartbeat.is_late(generation)
    await heartbeat.beat()
    assert heartbeat.is_late(generation)
    assert not heartbeat.is_late(heartbeat.generation)
    assert heartbeat.consumer != name


async def test_a_stopped_machine_makes_no_consumer_dead(
    server: Redis, shard: Shard, clock: FakeClock, reader: Consumer, second: Consumer
) -> None:
    """After the whole machine was stopped, no consumer is considered dead."""
    await second.beat()
    clock.now += 100
    await second.beat()
    assert await second.claim(100) == {}
    assert (await holders(server, shard))[reader.consumer] == 5


async def test_an_abandoned_name_is_claimed_like_any_dead_one(server: Redis, shard: Shard, reader: Consumer) -> None:
    """A consumer with a new name claims the entries of its old name at once."""
    reader.renew()
    await reader.beat()
    assert await count_claimed(reader, 100) == 5
    assert await reader.claim(100) == {}
    assert await holders(server, shard) == {reader.consumer: 5}


async def test_deleted_pending_entries_do_not_block_the_removal(
    server: Redis, shard: Shard, reader: Consumer, second: Consumer
) -> None:
    """A dead consumer is removed even if its pending entries were trimmed."""
    await reader.leave()
    await server.xtrim(shard.stream, maxlen=2, approximate=False)
    await second.beat()
    assert await count_claimed(second, 100) == 2
    await second.claim(100)
    assert await holders(server, shard) == {second.consumer: 2}


async def test_a_full_server_makes_no_consumer_dead(
    server: Redis, clock: FakeClock, reader: Consumer, second: Consumer
) -> None:
    """While Redis is out of memory, heartbeats still work, and no consumer is considered dead."""
    await second.beat()
    await server.config_set("maxmemory", 1)
    try:
        await pass_time(clock, 2 * TIMING.dead, second, reader)
        assert not reader.is_late(reader.generation)
        assert await second.claim(100) == {}
    finally:
        await server.config_set("maxmemory", "1gb")
    await pass_time(clock, TIMING.beat, reader, second)
    assert await second.claim(100) == {}


async def test_a_new_name_has_its_counter_before_it_reads(server: Redis, shard: Shard) -> None:
    """After ``renew``, ``announce`` creates the counter of the new name before the next read."""
    heartbeat = Consumer(GroupRef(server, shard, "g"), FakeClock())
    await make_group(server, shard, 0)
    await heartbeat.announce()
    heartbeat.renew()
    assert not await server.hexists(shard.alive("g"), heartbeat.consumer)
    await heartbeat.announce()
    assert await server.hexists(shard.alive("g"), heartbeat.consumer)


async def test_a_name_taken_during_a_heartbeat_has_its_counter_too(
    server: Redis, shard: Shard, reader: Consumer, second: Consumer
) -> None:
    """No other consumer claims its entries, and the counters of the names before are removed."""
    for has_abandoned in (True, False):
        await reader.beat()
        if has_abandoned:
            reader.renew()
        beating = asyncio.create_task(reader.beat())
        await asyncio.sleep(0)
        reader.renew()
        await beating
    await reader.announce()
    await server.xadd(shard.stream, {"n": 5})
    await read(server, shard, reader)
    await second.beat()

    assert await count_claimed(second, 100) == 5, "the entries of the first name"
    assert await second.claim(100) == {}
    assert (await holders(server, shard))[reader.consumer] == 1
    await reader.beat()
    assert set(await server.hkeys(shard.alive("g"))) == {reader.consumer.encode(), second.consumer.encode()}


async def test_copies_of_a_dead_consumer_are_claimed_too(server: Redis, shard: Shard) -> None:
    """Entries of all the group's streams are claimed before the dead consumer is removed from each."""
    clock = FakeClock()
    await make_group(server, shard, 2)
    leaving, living = (Consumer(GroupRef(server, shard, "g"), clock) for _ in range(2))
    await leaving.beat()
    keys = streams(shard, "g")
    for source in (Source.RETRY, Source.REPLAY):
        await server.xadd(keys[source], {b"from": source.value})
    await server.xreadgroup("g", leaving.consumer, dict.fromkeys(keys.values(), ">"))
    await leaving.leave()
    await living.beat()
    claims = [await living.claim(100) for _ in range(4)]
    assert [{source: len(entries) for source, entries in claim.items()} for claim in claims] == [
        {Source.LIVE: 2},
        {Source.RETRY: 1},
        {Source.REPLAY: 1},
        {},
    ]
    assert claims[2][Source.REPLAY][0][1] == [b"from", b"replay"]
    for stream in keys.values():
        assert [consumer["name"] for consumer in await server.xinfo_consumers(stream, "g")] == [
            living.consumer.encode()
        ]


async def test_orphans_are_claimed_under_a_new_name(server: Redis, shard: Shard) -> None:
    """If more entries are pending than in flight, the consumer takes a new name and claims them."""
    clock = FakeClock()
    await make_group(server, shard, 5)
    heartbeat = Consumer(GroupRef(server, shard, "g"), clock)
    await heartbeat.beat()
    due, name = [heartbeat.orphan_check_due], heartbeat.consumer
    await pass_time(clock, TIMING.orphan_check + TIMING.beat, heartbeat)
    due.append(heartbeat.orphan_check_due)
    await heartbeat.check_orphans({})
    assert ([*due, heartbeat.orphan_check_due], heartbeat.consumer) == ([False, True, False], name)
    await read(server, shard, heartbeat)
    await heartbeat.check_orphans({Source.LIVE: 5})
    assert heartbeat.consumer == name
    await heartbeat.check_orphans({Source.LIVE: 4})
    assert heartbeat.consumer != name
    await heartbeat.announce()
    assert await count_claimed(heartbeat, 100) == 5
