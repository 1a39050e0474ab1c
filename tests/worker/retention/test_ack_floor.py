import secrets
from dataclasses import dataclass, field

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from stream.entry import EntryId
from stream.keys import Shard
from stream.redis import client as connect
from tests.support.streams.retention import add, group, read_ids, register
from worker.group.lease import Lease
from worker.retention.ack_floor import AckFloor

Id = tuple[int, int]
HUGE = 2**64 - 1
BEYOND = (99, 0)


@dataclass(frozen=True, slots=True)
class Read:
    """A group: its reads and acks in order, and the parts of it that are left on the server."""

    registered: bool
    read: int
    acked: frozenset[int]
    """Which of those that it read, by their place."""
    set_to: int | None
    """The entry that it is set to by hand, by its place from 1; one past the end is beyond the stream's end."""
    checkpoint: str | None
    destroyed: bool


@dataclass(frozen=True, slots=True)
class FloorCase:
    """A stream, its groups, and a trim up to an entry, without a limit or in one step."""

    ids: list[Id]
    groups: list[Read]
    stays: Id
    limit: int | None = field(default=None)


def model_floor(case: FloorCase, group: Read) -> Id:
    """Return the oldest entry that a group has not settled, computed in the simplest way."""
    saved = model_checkpoint(case, group)
    if group.destroyed:
        return saved
    read = case.ids[: group.read]
    in_flight = [entry for place, entry in enumerate(read) if place not in group.acked]
    delivered = len(read) if group.set_to is None else group.set_to
    if group.registered and delivered > len(case.ids):
        return min([*in_flight, saved])
    return min([*in_flight, after(place(case, delivered))])


def model_unread(case: FloorCase, group: Read) -> int:
    delivered = place(case, group.read if group.set_to is None else group.set_to)
    return sum(entry > delivered for entry in case.ids)


def place(case: FloorCase, number: int) -> Id:
    """Return the id at this place. (0, 0) is before the first entry; a place past the last has an unused id."""
    return [(0, 0), *case.ids, BEYOND][number]


def model_checkpoint(case: FloorCase, group: Read) -> Id:
    if group.checkpoint in (None, "garbage"):
        return 0, 0
    saved = tuple(map(int, str(group.checkpoint).split("-")))
    return after((saved[0], saved[1])) if saved <= case.ids[-1] else (0, 0)


def after(entry: Id) -> Id:
    return (entry[0], entry[1] + 1) if entry[1] < HUGE else (entry[0] + 1, 0)


def model_stays(case: FloorCase) -> list[Id]:
    """Return the entries that no trim may remove, for any limit."""
    counted = [group for group in case.groups if group.registered or not group.destroyed]
    if not any(group.registered for group in case.groups):
        return case.ids
    floor = min(model_floor(case, group) for group in counted)
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
def cases(draw: st.DrawFn) -> FloorCase:
    entries = sorted(draw(st.sets(ids, min_size=1, max_size=30)))
    groups = draw(st.lists(reads(len(entries)), max_size=4))
    return FloorCase(entries, groups, draw(ids), draw(st.none() | st.integers(1, 200)))


async def build(server: Redis, shard: Shard, case: FloorCase) -> None:
    await add(server, shard, [f"{ms}-{seq}" for ms, seq in case.ids], b"x")
    for number, state in enumerate(case.groups):
        name = f"g{number}"
        read = await group(server, shard, name, read=state.read, ack=0)
        if acked := [entry for place, entry in enumerate(read) if place in state.acked]:
            await server.xack(shard.stream, name, *acked)
        if state.set_to is not None:
            ms, seq = place(case, state.set_to)
            await server.xgroup_setid(shard.stream, name, f"{ms}-{seq}")
        if state.checkpoint is not None:
            await server.set(shard.checkpoint(name), state.checkpoint)
        if state.registered:
            await register(server, shard, name)
        if state.destroyed:
            await server.xgroup_destroy(shard.stream, name)


IN_FLIGHT = Read(registered=True, read=2, acked=frozenset({1}), set_to=None, checkpoint=None, destroyed=False)


@given(case=cases())
@example(FloorCase([(1, HUGE - 1), (1, HUGE)], [IN_FLIGHT], (1, HUGE)))  # the same number to Lua
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_floor_is_never_passed(valkey_url: str, case: FloorCase) -> None:
    """No trim removes an entry that a group has not settled, and a trim without a limit removes all others.

    The server's count of unread entries stays correct, or is missing.
    """
    shard = Shard(f"floor-{secrets.token_hex(6)}")
    server = connect.client(valkey_url)
    await build(server, shard, case)
    lease, floor = Lease(server, shard.trimmer, 5000), AckFloor(server, shard)
    await lease.take()
    await floor.survey()
    removed = await floor.trim(lease.token, 5000, EntryId(0, *case.stays), limit=case.limit)
    stays = [
        (entry.ms, entry.seq)
        for entry in (EntryId.from_redis(0, entry_id) for entry_id in await read_ids(server, shard))
    ]
    assert stays == case.ids[len(case.ids) - len(stays) :]
    assert removed == len(case.ids) - len(stays)
    expected = model_stays(case)
    assert set(expected) <= set(stays)
    if case.limit is None or case.limit >= 100:
        assert stays == expected
    for position in (await floor.survey()).groups:
        assert position.unread in (None, model_unread(case, case.groups[int(position.name[1:])]))
    await server.delete(shard.stream)
    await server.aclose()
