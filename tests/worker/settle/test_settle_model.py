"""Settles against a model: random entries, claims, zombies that settle late, and repetitions."""

import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from stream.keys import Shard
from stream.redis.client import client
from tests.support.streams.delayed import read_delayed
from worker.group.group_ref import GroupRef
from worker.settle.copies import Copy
from worker.settle.delayed import DelayedRetries
from worker.settle.retry_policy import Disposition, Failure
from worker.settle.settler import Settler
from worker.sources import Source, streams

CONSUMERS = ("a", "b", "c")

holders = st.sampled_from(CONSUMERS)
places = st.integers(0, 9)
settlings = st.lists(st.tuples(places, st.sampled_from(["ack", "delay", "dead-letter"])), min_size=1, max_size=6)
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
class SettleModel:
    """The expected content of each stream: the payload and the attempts of each entry, by stream and id.

    A consumer still knows an entry after another has claimed it: then it is a zombie.
    """

    reads: list[tuple[Source, bytes, dict[bytes, bytes]]] = field(default_factory=list)
    """All entries that were ever read, in order."""
    pending: set[tuple[Source, bytes]] = field(default_factory=set)
    delayed: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)
    dead: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)

    def settle(self, source: Source, entry_id: bytes, fields: dict[bytes, bytes], how: str) -> None:
        """Settle an entry, unless it is settled already."""
        if (source, entry_id) not in self.pending:
            return
        self.pending.discard((source, entry_id))
        if how != "ack":
            {"delay": self.delayed, "dead-letter": self.dead}[how][
                copy_identity(copy(entry_id, fields, how).fields)
            ] += 1


def copy_identity(fields: Any) -> tuple[bytes, bytes]:
    """Return the identity of a copy: its first entry and the attempts."""
    return fields[b"payload"], fields.get(b"attempt", b"0")


def copy(entry_id: bytes, fields: dict[bytes, bytes], how: str) -> Copy:
    attempt = int(fields.get(b"attempt", 0)) + 1
    delay = 0.0 if how == "delay" else None
    disposition, failure = Disposition("failed: x", delay), Failure("x", "", "", 0)
    return Copy.from_failure(
        entry_id, fields, origin="0/1-0", attempt=attempt, disposition=disposition, failure=failure
    )


class RedisGroup:
    """The same operations on a real server."""

    def __init__(self, server: Redis, shard: Shard) -> None:
        self.server = server
        self.shard = shard
        self.keys = streams(shard, "g")
        self.model = SettleModel()
        self.settler = Settler(GroupRef(server, shard, "g"))
        self.number = 0

    async def prepare(self) -> None:
        for key in self.keys.values():
            await self.server.xgroup_create(key, "g", "0", mkstream=True)

    async def append(self) -> None:
        self.number += 1
        await self.server.xadd(self.keys[Source.LIVE], {b"payload": b"%d" % self.number})

    async def replay(self, place: int) -> None:
        """Put an entry on the replay stream, with a payload of its own."""
        self.number += 1
        await self.server.xadd(self.keys[Source.REPLAY], {b"payload": b"%d again %d" % (self.number, place)})

    async def read(self, consumer: str, source: Source, count: int) -> None:
        reply: Any = await self.server.xreadgroup("g", consumer, {self.keys[source]: ">"}, count=count)
        for entry_id, fields in reply[0][1] if reply else ():
            self.model.reads.append((source, entry_id, fields))
            self.model.pending.add((source, entry_id))

    async def claim(self, consumer: str, place: int) -> None:
        if self.model.reads:
            source, entry_id, _ = self.model.reads[place % len(self.model.reads)]
            await self.server.xclaim(self.keys[source], "g", consumer, 0, [entry_id])

    async def settle(self, places: list[tuple[int, str]]) -> None:
        """Settle some entries that were ever read: in flight, claimed by another, and settled, all in one batch."""
        for source in Source:
            acks: list[bytes] = []
            copies: list[Copy] = []
            for place, how in places if self.model.reads else ():
                stream, entry_id, fields = self.model.reads[place % len(self.model.reads)]
                if stream is source and how == "ack":
                    acks.append(entry_id)
                elif stream is source:
                    copies.append(copy(entry_id, fields, how))
            for entry_id in acks:
                self.model.settle(source, entry_id, {}, "ack")
            for written in copies:
                fields = next(f for s, i, f in self.model.reads if (s, i) == (source, written.entry_id))
                how = "delay" if written.delay_seconds is not None else "dead-letter"
                self.model.settle(source, written.entry_id, fields, how)
            if acks:
                await self.settler.ack(source, acks)
            if copies:
                await self.settler.copy(source, copies)

    async def promote(self) -> None:
        await DelayedRetries(GroupRef(self.server, self.shard, "g")).promote()
        self.model.delayed.clear()

    async def check(self) -> None:
        """Check that pending, delayed and dead entries match the model, and that settled copies are deleted."""
        for source, key in self.keys.items():
            pending: Any = await self.server.xpending_range(key, "g", "-", "+", 1000)
            assert {summary["message_id"] for summary in pending} == {i for s, i in self.model.pending if s is source}
        assert (
            Counter(copy_identity(fields) for fields, _ in await read_delayed(self.server, self.shard, "g"))
            == self.model.delayed
        )
        letters: Any = await self.server.xrange(self.shard.dead("g"))
        assert Counter(copy_identity(fields) for _, fields in letters) == self.model.dead
        for source in (Source.RETRY, Source.REPLAY):
            entries: Any = await self.server.xrange(self.keys[source])
            settled = {i for s, i, _ in self.model.reads if s is source} - {
                i for s, i in self.model.pending if s is source
            }
            assert not settled & {entry_id for entry_id, _ in entries}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(actions, min_size=5, max_size=40))
async def test_no_copy_without_an_ack_and_no_ack_without_a_copy(valkey_url: str, steps: list[tuple[Any, ...]]) -> None:
    """After any sequence of reads, claims, retries and settlements (late and repeated too), server and model agree."""
    server, shard = client(valkey_url), Shard(f"test-{secrets.token_hex(6)}")
    try:
        site = RedisGroup(server, shard)
        await site.prepare()
        for name, *arguments in [("append",)] * 3 + [("read", "a", Source.LIVE, 3)] + steps:
            await getattr(site, name)(*arguments)
            await site.check()
    finally:
        await server.aclose()
