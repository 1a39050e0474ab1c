"""A model test of the script that copies: two processes copy late and twice, and operators interfere."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from stream.entry import EntryId
from stream.keys import Shard
from stream.redis.client import client
from tests.support.samples.events import body, entry
from worker.group.group_ref import GroupRef
from worker.group.lease import Lease
from worker.replay.copier import plan_steps, split_steps
from worker.replay.entry_filter import EntryFilter
from worker.replay.entry_reader import Stored
from worker.replay.job import ENDED, Place, Progress, Replay, State
from worker.replay.repository import Replays, Superseded

ENTRIES = 12
GOING = (State.RUNNING, State.PAUSED, State.FAILED)

who = st.sampled_from(["a", "b"])
actions = st.one_of(
    st.tuples(st.just("take"), who),
    st.tuples(st.just("look"), who),
    st.tuples(st.just("copy"), who, st.integers(1, 5)),
    st.tuples(st.just("copy"), who, st.integers(1, 5)),
    st.tuples(st.just("copy"), who, st.integers(1, 5)),
    st.tuples(st.just("expire")),
    st.tuples(st.just("seize"), who),
    st.tuples(st.just("discard"), st.integers(1, ENTRIES)),
    st.tuples(st.just("move"), st.sampled_from([State.PAUSED, State.RUNNING, State.RUNNING, State.CANCELLED])),
)


@dataclass(slots=True)
class ReplayModel:
    """The expected state."""

    holder: str = ""
    state: State = State.RUNNING
    cursor: int = 0
    copied: list[int] = field(default_factory=list)
    discarded: set[int] = field(default_factory=set)


class RedisReplay:
    """The real server: entries 1 to ENTRIES, all matching the filter except every third."""

    def __init__(self, server: Redis, shard: Shard, place: Place) -> None:
        self.server = server
        self.shard = shard
        self.place = place
        self.key = shard.dead("g") if place is Place.DEAD else shard.stream
        self.replays = Replays(GroupRef(server, shard, "g"))
        self.leases = {name: Lease(server, shard.copying("g", "r"), 60_000) for name in ("a", "b")}
        self.known = dict.fromkeys(self.leases, 0)
        self.model = ReplayModel()
        self.replay = Replay(
            id="r",
            group="g",
            place=place,
            selection=EntryFilter(statuses=("read",)),
            rate=1,
            begin="0-0",
            end=f"{ENTRIES}-0",
            total=0,
            started_ms=0,
        )

    async def prepare(self) -> None:
        for number in range(1, ENTRIES + 1):
            payload = body(message_uuid=f"m-{number}", status="read" if number % 3 else "seen")
            fields: Any = entry(payload).to_fields()
            await self.server.xadd(self.key, fields, id=f"{number}-0")
        await self.server.sadd(self.shard.groups, "g")
        assert await self.replays.start(self.replay)

    async def take(self, name: str) -> None:
        has_lease = await self.leases[name].take()
        assert has_lease == (self.model.holder in ("", name))
        if has_lease:
            self.model.holder = name

    async def expire(self) -> None:
        await self.server.delete(self.shard.copying("g", "r"))
        self.model.holder = ""

    async def seize(self, name: str) -> None:
        """End the lease, and take it with an outdated cursor."""
        await self.expire()
        await self.take(name)

    async def look(self, name: str) -> None:
        progress = await self.progress()
        assert (progress.cursor.ms, progress.state) == (self.model.cursor, self.model.state)
        self.known[name] = progress.cursor.ms

    async def copy(self, name: str, limit: int) -> None:
        """Copy entries after the cursor that this process knows."""
        begin = self.known[name]
        stored: Any = await self.server.xrange(self.key, f"({begin}-0", "+")
        page = [Stored(EntryId.from_redis(0, entry_id), fields) for entry_id, fields in stored]
        now, _ = split_steps(plan_steps(self.replay, page), limit)
        last = not now
        to_be = EntryId(0, ENTRIES, 0) if last else now[-1].id
        copies = [copy for step in now for copy in step.copies]
        model = self.model
        may = model.holder == name and model.state is State.RUNNING and model.cursor == begin
        try:
            cursors = EntryId(0, begin, 0), to_be
            copied = await self.replays.copy(self.replay, self.leases[name], cursors, copies, last=last)
        except Superseded:
            assert not may
            return
        assert may
        numbers = [copy.id.ms for copy in copies]
        assert copied == len(numbers)
        model.copied += numbers
        model.cursor = self.known[name] = to_be.ms
        model.state = State.DONE if last else model.state

    async def discard(self, number: int) -> None:
        """Delete a dead letter; entries of the stream stay."""
        if self.place is Place.DEAD:
            await self.server.xdel(self.key, f"{number}-0")
            self.model.discarded.add(number)

    async def move(self, to: State) -> None:
        allowed = {State.PAUSED: [State.RUNNING], State.RUNNING: [State.PAUSED, State.FAILED]}.get(to, GOING)
        assert await self.replays.change_state(self.replay, to, allowed=allowed) is self.model.state
        if self.model.state in allowed:
            self.model.state = to

    async def progress(self) -> Progress:
        progress = await self.replays.find("r")
        assert progress is not None
        return progress

    async def check(self) -> None:
        """Check that the copies are the expected ones in order, and that the stream is held from the cursor on."""
        copies: Any = await self.server.xrange(self.shard.replay("g"))
        assert [int(fields[b"origin"].split(b"/")[1].split(b"-")[0]) for _, fields in copies] == self.model.copied
        assert {fields[b"replay"] for _, fields in copies} <= {b"r"}
        progress = await self.progress()
        assert (progress.done, progress.state) == (len(self.model.copied), self.model.state)
        letters: Any = await self.server.xrange(self.key)
        if self.place is Place.DEAD:
            removed = {*self.model.copied, *self.model.discarded}
            assert {entry_id.decode() for entry_id, _ in letters} == {
                f"{n}-0" for n in range(1, ENTRIES + 1) if n not in removed
            }
            return
        assert len(letters) == ENTRIES
        groups: Any = await self.server.xinfo_groups(self.key)
        holds = [(group["name"], group["last-delivered-id"]) for group in groups]
        ended = self.model.state in ENDED
        assert holds == ([] if ended else [(b"replay/r", b"%d-0" % self.model.cursor)])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([Place.STREAM, Place.DEAD]), st.lists(actions, min_size=5, max_size=30))
async def test_each_entry_is_copied_once_by_any_process(
    valkey_url: str, place: Place, actions: list[tuple[Any, ...]]
) -> None:
    """Exactly the matching entries are copied in order, and only by the holder of the lease with the right cursor."""
    server, shard = client(valkey_url), Shard(f"test-{secrets.token_hex(6)}")
    try:
        site = RedisReplay(server, shard, place)
        await site.prepare()
        for name, *arguments in [("take", "a"), ("copy", "a", 2), *actions]:
            await getattr(site, name)(*arguments)
            await site.check()
    finally:
        await server.aclose()
