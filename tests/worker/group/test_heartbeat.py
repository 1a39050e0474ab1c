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
    """A consumer that beats and claims."""

    def __init__(self, group: GroupRef, clock: "FakeClock") -> None:
        super().__init__(group, clock)
        self._claimer = Claimer(group, self, PoisonTracker(group))

    async def claim(self, most: int) -> dict[Source, RawEntries]:
        return await self._claimer.claim(most)


async def claimed(consumer: Consumer, most: int) -> int:
    """How many live entries it gets to claim."""
    return len((await consumer.claim(most))[Source.LIVE])


async def holders(server: Redis, shard: Shard) -> dict[str, int]:
    return {
        consumer["name"].decode(): consumer["pending"] for consumer in await server.xinfo_consumers(shard.stream, "g")
    }


async def pass_time(clock: FakeClock, seconds: float, *beating: Heartbeat) -> None:
    """Let time go by in steps in which those who live raise their counters."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now = min(clock.now + TIMING.beat, end)
        for heartbeat in beating:
            await heartbeat.beat()


async def test_the_entries_of_a_dead_consumer_are_claimed(server: Redis, shard: Shard) -> None:
    """A counter that stands still for the time of death makes its consumer's entries another's; then it is removed."""
    clock = FakeClock()
    await make_group(server, shard, 5)
    dead, living = (Consumer(GroupRef(server, shard, "g"), clock) for _ in range(2))
    await dead.beat()
    await living.beat()
    await read(server, shard, dead)
    await pass_time(clock, TIMING.dead - 1, living)
    assert await living.claim(100) == {}
    await pass_time(clock, 1 + TIMING.beat, living)
    assert [fields for _, fields in (await living.claim(3))[Source.LIVE]] == [[b"n", b"%d" % n] for n in range(3)]
    assert await claimed(living, 3) == 2
    assert await living.claim(3) == {}
    assert await holders(server, shard) == {living.consumer: 5}
    assert list(await server.hgetall(shard.alive("g"))) == [living.consumer.encode()]


async def test_a_living_consumer_is_left_alone(server: Redis, shard: Shard) -> None:
    """As long as its counter moves, however seldom it reads, nothing of its is claimed."""
    clock = FakeClock()
    await make_group(server, shard, 5)
    one, other = (Consumer(GroupRef(server, shard, "g"), clock) for _ in range(2))
    await one.beat()
    await read(server, shard, one)
    await pass_time(clock, 4 * TIMING.dead, one, other)
    assert await other.claim(100) == {}
    assert (await holders(server, shard))[one.consumer] == 5


async def test_who_left_is_claimed_at_once(server: Redis, shard: Shard) -> None:
    """Without a counter nobody waits: an orderly stop hands over at the next look."""
    clock = FakeClock()
    await make_group(server, shard, 5)
    leaving, living = (Consumer(GroupRef(server, shard, "g"), clock) for _ in range(2))
    await leaving.beat()
    await read(server, shard, leaving)
    await leaving.leave()
    await living.beat()
    assert await claimed(living, 100) == 5


async def test_one_who_comes_back_between_look_and_claim_keeps_its_entries(server: Redis, shard: Shard) -> None:
    """The script checks the counter again: what was judged dead and has moved since is not robbed."""
    clock = FakeClock()
    await make_group(server, shard, 5)
    back, living = (Consumer(GroupRef(server, shard, "g"), clock) for _ in range(2))
    await back.beat()
    await read(server, shard, back)
    await pass_time(clock, TIMING.dead + TIMING.beat, living)
    await server.hincrby(shard.alive("g"), back.consumer, 1)
    assert await living.claim(100) == {}
    assert (await holders(server, shard))[back.consumer] == 5


async def test_a_late_one_takes_a_new_name_and_drops_what_it_has(server: Redis, shard: Shard) -> None:
    """Late by its own clock, before and after the next beat, what it read counts as lost to others."""
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


async def test_one_who_stood_still_does_not_judge_others_by_old_sight(server: Redis, shard: Shard) -> None:
    """After the whole machine stood still everybody's counter is old: nobody is taken for dead for that."""
    clock = FakeClock()
    await make_group(server, shard, 5)
    one, other = (Consumer(GroupRef(server, shard, "g"), clock) for _ in range(2))
    await one.beat()
    await read(server, shard, one)
    await other.beat()
    clock.now += 100
    await other.beat()
    assert await other.claim(100) == {}
    assert (await holders(server, shard))[one.consumer] == 5


async def test_an_abandoned_name_is_claimed_like_any_dead_one(server: Redis, shard: Shard) -> None:
    """Who renews gets its own entries back under the new name, as soon as it looks."""
    clock = FakeClock()
    await make_group(server, shard, 5)
    heartbeat = Consumer(GroupRef(server, shard, "g"), clock)
    await heartbeat.beat()
    await read(server, shard, heartbeat)
    heartbeat.renew()
    await heartbeat.beat()
    assert await claimed(heartbeat, 100) == 5
    assert await heartbeat.claim(100) == {}
    assert await holders(server, shard) == {heartbeat.consumer: 5}


async def test_entries_deleted_while_pending_do_not_stand_in_the_way(server: Redis, shard: Shard) -> None:
    """A dead consumer whose entries were trimmed is cleared away."""
    clock = FakeClock()
    await make_group(server, shard, 5)
    leaving, living = (Consumer(GroupRef(server, shard, "g"), clock) for _ in range(2))
    await leaving.beat()
    await read(server, shard, leaving)
    await leaving.leave()
    await server.xtrim(shard.stream, maxlen=2, approximate=False)
    await living.beat()
    assert await claimed(living, 100) == 2
    await living.claim(100)
    assert await holders(server, shard) == {living.consumer: 2}


async def test_a_full_server_makes_nobody_dead(server: Redis, shard: Shard) -> None:
    """When the server refuses all counters for want of memory, work goes on and nobody is claimed from."""
    clock = FakeClock()
    await make_group(server, shard, 5)
    one, other = (Consumer(GroupRef(server, shard, "g"), clock) for _ in range(2))
    await one.beat()
    await read(server, shard, one)
    await other.beat()
    await server.config_set("maxmemory", 1)
    try:
        await pass_time(clock, 2 * TIMING.dead, other, one)
        assert not one.is_late(one.generation)
        assert await other.claim(100) == {}
    finally:
        await server.config_set("maxmemory", "1gb")
    await pass_time(clock, TIMING.beat, one, other)
    assert await other.claim(100) == {}


async def test_a_new_name_has_its_counter_before_it_reads(server: Redis, shard: Shard) -> None:
    """Who renewed announces the new name first, so that nobody takes it for dead between two beats."""
    heartbeat = Consumer(GroupRef(server, shard, "g"), FakeClock())
    await make_group(server, shard, 0)
    await heartbeat.announce()
    heartbeat.renew()
    assert not await server.hexists(shard.alive("g"), heartbeat.consumer)
    await heartbeat.announce()
    assert await server.hexists(shard.alive("g"), heartbeat.consumer)


async def test_copies_in_a_dead_consumers_hand_are_claimed_too(server: Redis, shard: Shard) -> None:
    """Of whichever of the group's streams they are; only then is the consumer removed, from all of them."""
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
    taken = [await living.claim(100) for _ in range(4)]
    assert [{source: len(entries) for source, entries in found.items()} for found in taken] == [
        {Source.LIVE: 2},
        {Source.RETRY: 1},
        {Source.REPLAY: 1},
        {},
    ]
    assert taken[2][Source.REPLAY][0][1] == [b"from", b"replay"]
    for stream in keys.values():
        assert [one["name"] for one in await server.xinfo_consumers(stream, "g")] == [living.consumer.encode()]


async def test_what_the_server_has_forgotten_to_end_is_left_to_be_claimed(server: Redis, shard: Shard) -> None:
    """More pending under the own name than is in hand: the name is left, and its entries come back under the next."""
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
    assert await claimed(heartbeat, 100) == 5
