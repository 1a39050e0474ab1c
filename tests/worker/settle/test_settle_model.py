"""Settling against a model of what should be: random entries, claims, zombies that settle late, repetitions."""

import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from stream.keys import Shard
from stream.redis.client import client
from tests.support.streams.delayed import delayed
from worker.group.group_ref import GroupRef
from worker.settle.copies import Copy
from worker.settle.delayed import DelayedRetries
from worker.settle.retry_policy import Disposition, Failure
from worker.settle.settler import Settler
from worker.sources import Source, streams

CONSUMERS = ("a", "b", "c")

holders = st.sampled_from(CONSUMERS)
places = st.integers(0, 9)
settlings = st.lists(st.tuples(places, st.sampled_from(["ack", "park", "bury"])), min_size=1, max_size=6)
actions = st.one_of(
    st.tuples(st.just("append")),
    st.tuples(st.just("read"), holders, st.sampled_from(list(Source)), st.integers(1, 4)),
    st.tuples(st.just("claim"), holders, places),
    st.tuples(st.just("settle"), settlings),
    st.tuples(st.just("settle"), settlings),
    st.tuples(st.just("promote")),
    st.tuples(st.just("replay"), places),
)


@dataclass(slots=True)
class Model:
    """What each stream should hold: of each entry, by stream and id, which payload it is and how many attempts it had.

    A consumer's memory of an entry lives on after the entry is another's: that is what makes it a zombie.
    """

    known: list[tuple[Source, bytes, dict[bytes, bytes]]] = field(default_factory=list)
    """All that was ever read, in order."""
    pending: set[tuple[Source, bytes]] = field(default_factory=set)
    parked: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)
    dead: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)

    def settle(self, source: Source, entry_id: bytes, fields: dict[bytes, bytes], how: str) -> None:
        """End an entry; nothing happens if it has been ended before."""
        if (source, entry_id) not in self.pending:
            return
        self.pending.discard((source, entry_id))
        if how != "ack":
            {"park": self.parked, "bury": self.dead}[how][named(copy(entry_id, fields, how).fields)] += 1


def named(fields: Any) -> tuple[bytes, bytes]:
    """By what a copy is told from others: which entry it was, and after how many attempts."""
    return fields[b"payload"], fields.get(b"attempt", b"0")


def copy(entry_id: bytes, fields: dict[bytes, bytes], how: str) -> Copy:
    attempt = int(fields.get(b"attempt", 0)) + 1
    delay = 0.0 if how == "park" else None
    disposition, failure = Disposition("failed: x", delay), Failure("x", "", "", 0)
    return Copy.from_failure(
        entry_id, fields, origin="0/1-0", attempt=attempt, disposition=disposition, failure=failure
    )


class RedisGroup:
    """The same on a real server."""

    def __init__(self, server: Redis, shard: Shard) -> None:
        self.server = server
        self.shard = shard
        self.keys = streams(shard, "g")
        self.model = Model()
        self.settler = Settler(GroupRef(server, shard, "g"))
        self.number = 0

    async def prepare(self) -> None:
        for key in self.keys.values():
            await self.server.xgroup_create(key, "g", "0", mkstream=True)

    async def append(self) -> None:
        self.number += 1
        await self.server.xadd(self.keys[Source.LIVE], {b"payload": b"%d" % self.number})

    async def replay(self, place: int) -> None:
        """Give the group an entry again, as another payload, so that it can be told from the first."""
        self.number += 1
        await self.server.xadd(self.keys[Source.REPLAY], {b"payload": b"%d again %d" % (self.number, place)})

    async def read(self, consumer: str, source: Source, count: int) -> None:
        reply: Any = await self.server.xreadgroup("g", consumer, {self.keys[source]: ">"}, count=count)
        for entry_id, fields in reply[0][1] if reply else ():
            self.model.known.append((source, entry_id, fields))
            self.model.pending.add((source, entry_id))

    async def claim(self, consumer: str, place: int) -> None:
        if self.model.known:
            source, entry_id, _ = self.model.known[place % len(self.model.known)]
            await self.server.xclaim(self.keys[source], "g", consumer, 0, [entry_id])

    async def settle(self, wanted: list[tuple[int, str]]) -> None:
        """Settle some of what was ever read: entries in hand, in another's hand, and settled ones, all in one batch."""
        for source in Source:
            acks: list[bytes] = []
            copies: list[Copy] = []
            for place, how in wanted if self.model.known else ():
                own, entry_id, fields = self.model.known[place % len(self.model.known)]
                if own is source and how == "ack":
                    acks.append(entry_id)
                elif own is source:
                    copies.append(copy(entry_id, fields, how))
            for entry_id in acks:
                self.model.settle(source, entry_id, {}, "ack")
            for one in copies:
                fields = next(f for s, i, f in self.model.known if (s, i) == (source, one.entry_id))
                self.model.settle(source, one.entry_id, fields, "park" if one.delay_seconds is not None else "bury")
            if acks:
                await self.settler.ack(source, acks)
            if copies:
                await self.settler.copy(source, copies)

    async def promote(self) -> None:
        await DelayedRetries(GroupRef(self.server, self.shard, "g")).promote()
        self.model.parked.clear()

    async def check(self) -> None:
        """Pending, parked and dead are what they should be; no copy that was settled is left on its stream."""
        for source, key in self.keys.items():
            found: Any = await self.server.xpending_range(key, "g", "-", "+", 1000)
            assert {one["message_id"] for one in found} == {i for s, i in self.model.pending if s is source}
        assert Counter(named(fields) for fields, _ in await delayed(self.server, self.shard, "g")) == self.model.parked
        letters: Any = await self.server.xrange(self.shard.dead("g"))
        assert Counter(named(fields) for _, fields in letters) == self.model.dead
        for source in (Source.RETRY, Source.REPLAY):
            left: Any = await self.server.xrange(self.keys[source])
            settled = {i for s, i, _ in self.model.known if s is source} - {
                i for s, i in self.model.pending if s is source
            }
            assert not settled & {entry_id for entry_id, _ in left}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(actions, min_size=5, max_size=40))
async def test_no_copy_without_an_ack_and_no_ack_without_a_copy(valkey_url: str, done: list[tuple[Any, ...]]) -> None:
    """After any sequence of reads, claims, settlings in time, late and twice, and retries: what should be, is."""
    server, shard = client(valkey_url), Shard(f"test-{secrets.token_hex(6)}")
    try:
        site = RedisGroup(server, shard)
        await site.prepare()
        for name, *arguments in [("append",)] * 3 + [("read", "a", Source.LIVE, 3)] + done:
            await getattr(site, name)(*arguments)
            await site.check()
    finally:
        await server.aclose()
