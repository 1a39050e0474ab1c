import secrets
from dataclasses import dataclass, field

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from stream.entry import EntryId
from stream.keys import Shard
from stream.redis import client as connect
from tests.support.streams.retention import add, group, left, register
from worker.group.lease import Lease
from worker.retention.ack_floor import AckFloor

Id = tuple[int, int]
HUGE = 2**64 - 1
BEYOND = (99, 0)


@dataclass(frozen=True, slots=True)
class Read:
    """A group: what it does, in this order, and what of it is left on the server."""

    registered: bool
    read: int
    acked: frozenset[int]
    """Which of those that it read, by their place."""
    set_to: int | None
    """The entry that it is set to by hand, by its place from 1; one past the end is beyond the stream's end."""
    checkpoint: str | None
    destroyed: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A stream, its groups, and a trim: up to what is to stay, exactly or in one step."""

    ids: list[Id]
    groups: list[Read]
    stays: Id
    most: int | None = field(default=None)


def model_floor(case: Case, one: Read) -> Id:
    """What a group needs, said once more and as plainly as can be."""
    saved = model_checkpoint(case, one)
    if one.destroyed:
        return saved
    read = case.ids[: one.read]
    in_hand = [entry for place, entry in enumerate(read) if place not in one.acked]
    delivered = len(read) if one.set_to is None else one.set_to
    if one.registered and delivered > len(case.ids):
        return min([*in_hand, saved])
    return min([*in_hand, after(place(case, delivered))])


def model_unread(case: Case, one: Read) -> int:
    delivered = place(case, one.read if one.set_to is None else one.set_to)
    return sum(entry > delivered for entry in case.ids)


def place(case: Case, number: int) -> Id:
    """The entry at this place; (0, 0) is before the first, and after the last one comes what is not there."""
    return [(0, 0), *case.ids, BEYOND][number]


def model_checkpoint(case: Case, one: Read) -> Id:
    if one.checkpoint in (None, "garbage"):
        return 0, 0
    saved = tuple(map(int, str(one.checkpoint).split("-")))
    return after((saved[0], saved[1])) if saved <= case.ids[-1] else (0, 0)


def after(entry: Id) -> Id:
    return (entry[0], entry[1] + 1) if entry[1] < HUGE else (entry[0] + 1, 0)


def model_kept(case: Case) -> list[Id]:
    """All entries that no trim may remove, whatever the limit."""
    counted = [one for one in case.groups if one.registered or not one.destroyed]
    if not any(one.registered for one in case.groups):
        return case.ids
    floor = min(model_floor(case, one) for one in counted)
    return [entry for entry in case.ids if entry >= min(floor, case.stays)]


moments = st.integers(1, 5)
seqs = st.sampled_from([0, 1, 9, 10, 2**53, 2**53 + 1, HUGE - 1, HUGE])  # more than Lua's numbers hold exactly
ids = st.tuples(moments, seqs)


@st.composite
def reads(draw: st.DrawFn, entries: int) -> Read:
    read = draw(st.integers(0, entries))
    acked = draw(st.sampled_from(["all", "none", "some"]))
    places = frozenset(range(read)) if acked == "all" else frozenset[int]()
    if acked == "some" and read:
        places = draw(st.frozensets(st.integers(0, read - 1)))
    saved = st.sampled_from(["garbage", "0-0", "5-0", "0005-0001"]) | ids.map(lambda entry: f"{entry[0]}-{entry[1]}")
    return Read(
        registered=draw(st.booleans()),
        read=read,
        acked=places,
        set_to=draw(st.none() | st.integers(0, read) | st.just(entries + 1)),
        checkpoint=draw(st.none() | saved),
        destroyed=draw(st.booleans()),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    entries = sorted(draw(st.sets(ids, min_size=1, max_size=30)))
    groups = draw(st.lists(reads(len(entries)), max_size=4))
    return Case(entries, groups, draw(ids), draw(st.none() | st.integers(1, 200)))


async def build(server: Redis, shard: Shard, case: Case) -> None:
    await add(server, shard, [f"{ms}-{seq}" for ms, seq in case.ids], b"x")
    for number, one in enumerate(case.groups):
        name = f"g{number}"
        read = await group(server, shard, name, read=one.read, ack=0)
        if acked := [entry for place, entry in enumerate(read) if place in one.acked]:
            await server.xack(shard.stream, name, *acked)
        if one.set_to is not None:
            ms, seq = place(case, one.set_to)
            await server.xgroup_setid(shard.stream, name, f"{ms}-{seq}")
        if one.checkpoint is not None:
            await server.set(shard.checkpoint(name), one.checkpoint)
        if one.registered:
            await register(server, shard, name)
        if one.destroyed:
            await server.xgroup_destroy(shard.stream, name)


IN_HAND = Read(registered=True, read=2, acked=frozenset({1}), set_to=None, checkpoint=None, destroyed=False)


@given(case=cases())
@example(Case([(1, HUGE - 1), (1, HUGE)], [IN_HAND], (1, HUGE)))  # the same number to Lua
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_floor_is_never_passed(valkey_url: str, case: Case) -> None:
    """Whatever the groups have read, acked or lost, what one needs stays; exactly asked, exactly the rest goes.

    And the server's count of what is unread stays true, or it gives none.
    """
    shard = Shard(f"floor-{secrets.token_hex(6)}")
    server = connect.client(valkey_url)
    await build(server, shard, case)
    lease, floor = Lease(server, shard.trimmer, 5000), AckFloor(server, shard)
    await lease.take()
    await floor.survey()
    removed = await floor.trim(lease.token, 5000, EntryId(0, *case.stays), limit=case.most)
    kept = [(entry.ms, entry.seq) for entry in (EntryId.from_redis(0, one) for one in await left(server, shard))]
    assert kept == case.ids[len(case.ids) - len(kept) :]
    assert removed == len(case.ids) - len(kept)
    expected = model_kept(case)
    assert set(expected) <= set(kept)
    if case.most is None or case.most >= 100:
        assert kept == expected
    for one in (await floor.survey()).groups:
        assert one.unread in (None, model_unread(case, case.groups[int(one.name[1:])]))
    await server.delete(shard.stream)
    await server.aclose()
