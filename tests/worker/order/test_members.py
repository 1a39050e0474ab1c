"""Several workers in order mode on real streams."""

import asyncio
import secrets
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream.keys import Shard
from stream.redis.client import client
from tests.support.order.members import GROUP, OrderedWorkers
from worker.order import message_order
from worker.order.message_order import MessageOrder
from worker.timing import TIMING

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from("abc")),
        st.tuples(st.just("work"), st.integers(0, 2)),
        st.tuples(st.just("handle"), st.integers(0, 2), st.integers(0, 3)),
        st.tuples(st.just("fail"), st.integers(0, 2), st.integers(0, 3)),
        st.tuples(st.just("stop"), st.integers(0, 2)),
        st.tuples(st.just("drop"), st.integers(0, 2)),
        st.tuples(st.just("promote")),
    ),
    min_size=20,
    max_size=40,
)


def count(name: str) -> float:
    """The value of a counter of order mode."""
    return REGISTRY.get_sample_value(f"ackstream_order_{name}_total", {"group": GROUP}) or 0.0


async def start(server: Redis, shard: Shard, *messages: str, workers: int) -> OrderedWorkers:
    """Append an event for each of the messages, and let the first worker start their calls."""
    members = await OrderedWorkers.make(server, shard, workers)
    for message in messages:
        await members.append(message)
    await members.members[0].work()  # it takes the shard
    await members.members[0].work()
    return members


async def play(url: str, actions: list[tuple[Any, ...]]) -> OrderedWorkers:
    """Let the members do this, and then all that is left."""
    server = client(url)
    try:
        members = await OrderedWorkers.make(server, Shard(f"test-{secrets.token_hex(6)}"))
        for word, *values in actions:
            match word:
                case "append":
                    await members.append(values[0])
                    await members.append(values[0])
                case "promote":
                    await members.promote()
                case "stop":
                    await members.stop(values[0])
                case "work":
                    await members.members[values[0]].work()
                case "drop":
                    members.members[values[0]].drop()
                case _:
                    await members.members[values[0]].end(values[1], fails=word == "fail")
        await members.finish()
        return members
    finally:
        await server.aclose()


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
def test_workers_see_each_message_in_order(
    valkey_url: str, runner: asyncio.Runner, actions: list[tuple[Any, ...]]
) -> None:
    """With failures, stalls and dropped entries, no worker gets two events of a message out of order."""
    members = runner.run(play(valkey_url, actions))

    assert members.observed.faults == []
    assert sorted(set(members.observed.handled)) == sorted(members.appended)


async def test_a_worker_that_stood_still_settles_and_reads_nothing(server: Redis, shard: Shard) -> None:
    """After the take-over its settlement and its reads are refused and counted, and the new owner has all entries."""
    members = await start(server, shard, "m", "m", workers=2)
    first, second = members.members
    before = count("refused")

    await members.stop(0)
    await second.work()
    await first.end(0, fails=False)
    pending: Any = await server.xpending_range(shard.stream, GROUP, "-", "+", 10)

    assert count("refused") == before + 1
    assert len(pending) == 2
    assert not members.observed.handled
    await members.finish()
    assert members.observed.handled == members.appended


async def test_a_failed_event_holds_up_its_message_only(server: Redis, shard: Shard) -> None:
    """Its later events wait, also for the next owner, until its retry is handled; another message continues."""
    members = await start(server, shard, "bad", "bad", "good", workers=2)
    first, second = members.members
    await first.end(0, fails=True)
    await first.end(0, fails=False)
    handled = list(members.observed.handled)
    first.drop()
    await first.heartbeat.beat()

    await second.work()
    await second.work()
    waiting = second.order.gate.waiting.total()
    running = len(second.running)
    await members.finish()

    assert handled == [members.appended[2]]
    assert (waiting, running) == (1, 0)
    assert members.observed.handled[1:] == members.appended[:2]
    assert members.observed.faults == []


async def test_a_removed_retry_frees_its_message(server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a person removes a delayed retry, the events behind it continue."""
    members = await start(server, shard, "m", "m", workers=1)
    (member,) = members.members
    await member.end(0, fails=True)
    await server.delete(member.group.delayed)

    monkeypatch.setattr(message_order, "OVERDUE_SECONDS", -1.0)
    await member.order.check_delayed()
    await member.work()

    assert [event.entry for _, _, event in member.running.values()] == members.appended[1:]


async def test_a_retry_that_fails_during_the_check_still_holds_up_its_message(
    server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry that is delayed again while the worker looks for removed ones was not removed."""
    members = await start(server, shard, "m", "m", workers=1)
    (member,) = members.members
    await member.end(0, fails=True)
    monkeypatch.setattr(message_order, "OVERDUE_SECONDS", -60.0)  # all delayed retries are overdue
    await members.promote()
    list_retries = Redis.xrange

    async def fail_before(self: Redis, *args: Any, **options: Any) -> Any:
        await member.work()
        await member.end(0, fails=True)
        monkeypatch.setattr(message_order, "OVERDUE_SECONDS", 60.0)
        return await list_retries(self, *args, **options)

    monkeypatch.setattr(Redis, "xrange", fail_before)
    await member.order.check_delayed()

    assert not member.order.gate.has_due


async def test_only_the_first_event_of_a_message_is_suspected(server: Redis, shard: Shard) -> None:
    """A dead worker was not handling the events that waited: no crash counts against them."""
    members = await start(server, shard, *["m"] * 5, workers=2)
    second = members.members[1]
    await members.stop(0)
    for _ in range(6):
        await second.work()

    counted: Any = await server.hkeys(second.group.poison)

    assert [name.decode() for name in counted] == [f"live:{members.appended[0].partition('/')[2]}"]
    assert second.order.gate.waiting.total() == 4


async def test_a_call_that_ends_after_a_standstill_counts_as_an_overlap(server: Redis, shard: Shard) -> None:
    """The call ran longer than the lease of its worker, so the next owner may have called the handler as well."""
    members = await start(server, shard, "m", workers=1)
    (member,) = members.members
    before = count("overlaps")

    member.clock.now += TIMING.dead
    await member.end(0, fails=False)

    assert count("overlaps") == before + 1


async def test_an_interrupted_take_over_is_repeated(server: Redis, shard: Shard) -> None:
    """If Redis fails after a worker has taken the shard, the worker takes it again: it does not count as owned."""
    workers = await OrderedWorkers.make(server, shard, 1)
    (worker,) = workers.members
    await server.set(worker.group.delayed, "of another type")
    with pytest.raises(ResponseError):
        await worker.work()
    await server.delete(worker.group.delayed)
    worker.heartbeat.renew()
    await workers.append("m")

    for _ in range(3):
        await worker.work()

    assert worker.is_owner
    assert len(worker.running) == 1


async def test_workers_share_the_shards(server: Redis, shard: Shard) -> None:
    """Of four shards two workers have two each, and one gives a shard away when a third worker comes."""
    shards = [Shard(shard.name, number) for number in range(4)]
    rows = [(await OrderedWorkers.make(server, each, 3)).members for each in shards]
    for place in range(3):
        owned = rows[0][place].owned
        for row in rows:
            row[place].order = MessageOrder(
                row[place].group, row[place].heartbeat, row[place].poison, owned, lambda: len(shards)
            )

    async def work(*places: int) -> list[int]:
        for _ in range(6):
            for row in rows:
                for place in places:
                    await row[place].work()
        return [len(rows[0][place].owned) for place in places]

    assert await work(0) == [4]
    assert await work(0, 1) == [2, 2]
    assert max(await work(0, 1, 2)) == 2
