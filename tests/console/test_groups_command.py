"""`ackstream groups list` and `ackstream groups drop`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner, Result

from console.main import make_app
from console.queries import groups
from runtime.errors import PartlyDone
from stream.keys import Shard
from stream.redis import client as connect
from tests.support.in_process import run_worker
from tests.support.streams.retention import add, group, register
from tests.support.waiting import until


@dataclass(frozen=True, slots=True)
class GroupCommands:
    """A stream, and the group commands on it."""

    url: str
    shard: Shard

    def run(self, *arguments: str, answer: str = "") -> Result:
        """Run `ackstream groups …`."""
        return CliRunner().invoke(make_app(["groups"]), ["groups", *arguments, "--redis-url", self.url], input=answer)

    def list_groups(self) -> dict[str, dict[str, Any]]:
        """Return the rows of `list --json` by group."""
        result = self.run("list", "--json")
        assert result.exit_code == 0, result.output
        return {row.pop("group"): row for row in orjson.loads(result.output)["groups"]}

    def do(self, act: Callable[[Redis], Awaitable[Any]]) -> Any:
        """Run a coroutine with a client of the server."""

        async def run() -> Any:
            async with connect.client(self.url) as server:
                return await act(server)

        return asyncio.run(run())


@pytest.fixture
def site(valkey_url: str, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> GroupCommands:
    """A stream of ten entries with groups that have read all, some or none, a missing and a foreign group."""
    monkeypatch.setenv("ACKSTREAM_STREAM", shard.name)

    async def prepare(server: Redis) -> None:
        await add(server, shard, range(1, 11))
        await group(server, shard, "done", read=10)
        await group(server, shard, "slow", read=5, ack=2)
        await group(server, shard, "foreign")
        await register(server, shard, "done", "slow", "missing")
        await server.set(shard.checkpoint("missing"), "7-0")
        await server.set(shard.checkpoint("slow"), "2-0")
        await server.xadd(shard.dead("slow"), {"payload": "x"})

    site = GroupCommands(valkey_url, shard)
    site.do(prepare)
    return site


def test_every_group_is_listed_with_its_kept_entries(site: GroupCommands) -> None:
    """`list` shows registered, foreign and missing groups; kept entries count from the oldest that the group needs."""
    rows = site.list_groups()
    sizes = {name: row.pop("kept_bytes") for name, row in rows.items()}
    ages = {name: row.pop("oldest_seconds") for name, row in rows.items()}
    defaults = {
        "registered": True,
        "exists": True,
        "alive": 0,
        "dead": 0,
        "paused": None,
        "paused_since": None,
        "paused_by": None,
        "paused_why": None,
        "checkpoint": None,
        "kept_exact": True,
    }
    assert rows == {
        "done": defaults | {"unread": 0, "pending": 0, "kept_entries": 0},
        "slow": defaults | {"unread": 5, "pending": 3, "kept_entries": 8, "checkpoint": "0/2-0", "dead": 1},
        "foreign": defaults | {"unread": 10, "pending": 0, "kept_entries": 10, "registered": False},
        "missing": defaults | {"unread": None, "pending": 0, "kept_entries": 3, "checkpoint": "0/7-0", "exists": False},
    }
    assert sizes["done"] == 0
    assert 0 < sizes["missing"] < sizes["slow"] < sizes["foreign"]
    assert ages["done"] is None
    assert 50 * 365 * 86_400 < ages["missing"] < ages["foreign"]
    assert "foreign" in site.run("list").output


def test_the_count_of_kept_entries_is_limited(site: GroupCommands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the count is a minimum, and `kept_exact` is false."""
    monkeypatch.setattr(groups, "COUNTED_AT_MOST", 2)
    rows = site.list_groups()
    assert [(rows[name]["kept_entries"], rows[name]["kept_exact"]) for name in ("slow", "missing", "foreign")] == [
        (8, False),
        (2, False),
        (10, True),
    ]


def test_a_stream_without_groups_lists_none(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`list` and `drop` work without groups, and without a stream."""
    monkeypatch.setenv("ACKSTREAM_STREAM", "nothing-here")
    site = GroupCommands(valkey_url, Shard("nothing-here"))
    assert site.list_groups() == {}
    assert "no groups" in site.run("list").output
    assert "the groups are: none yet" in str(site.run("drop", "x").exception)


async def _keys(server: Redis, shard: Shard) -> set[str]:
    return {key.decode().removeprefix(f"{shard.stream}:") async for key in server.scan_iter(f"{shard.name}:*")}


def test_drop_removes_a_group_and_keeps_its_dead_letters(site: GroupCommands) -> None:
    """`drop` prints the discarded work; other groups and the dead letters stay."""
    shard = site.shard
    everything = {shard.stream, "groups", "checkpoint:missing", "checkpoint:slow", "dead:slow"}
    site.do(lambda server: server.hset(shard.alive("slow"), "killed", "7"))
    site.do(lambda server: server.xadd(f"{shard.stream}:retry:slow", {"a": "b"}))
    result = site.run("drop", "slow", "--yes")
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    assert "Discarded with group 'slow': 5 unread entries, 3 in flight" in output
    assert "Its 1 dead letters are kept" in output
    assert set(site.list_groups()) == {"done", "foreign", "missing"}
    assert site.do(lambda server: _keys(server, shard)) == everything - {"checkpoint:slow"}
    letters = CliRunner().invoke(
        make_app(["dead-letters"]), ["dead-letters", "list", "--group", "slow", "--redis-url", site.url, "--json"]
    )
    assert len(orjson.loads(letters.output)["dead_letters"]) == 1


def test_drop_with_dead_removes_the_dead_letters(site: GroupCommands) -> None:
    """With --dead, `drop` removes the dead letters too."""
    output = " ".join(site.run("drop", "slow", "--yes", "--dead").output.split())
    assert "1 dead letters are discarded too" in output
    assert site.do(lambda server: server.exists(site.shard.dead("slow"))) == 0


@pytest.mark.parametrize("name", ["foreign", "missing"])
def test_a_foreign_or_missing_group_can_be_dropped(site: GroupCommands, name: str) -> None:
    """`drop` removes a foreign or a missing group, because either can block retention."""
    assert site.run("drop", name, answer="y\n").exit_code == 0
    assert name not in site.list_groups()


def test_a_pause_by_hand_needs_a_reason_and_a_registered_group(site: GroupCommands) -> None:
    """The list shows the person, the time and the reason; `resume` ends the pause."""
    assert site.run("pause", "slow").exit_code == 2
    assert site.run("pause", "slow", "--why", " ").exit_code == 2
    assert site.run("pause", "slow", "--why", "x" * 201).exit_code == 2
    assert "no group 'foreign' is registered" in str(site.run("pause", "foreign", "--why", "x").exception)
    assert site.run("pause", "slow", "--why", "upgrade", "--json").exit_code == 0
    row = site.list_groups()["slow"]
    assert (row["paused"], row["paused_why"], bool(row["paused_by"])) == ("operator", "upgrade", True)
    assert row["paused_since"] is not None
    assert site.run("resume", "slow").exit_code == 0
    assert site.list_groups()["slow"]["paused"] is None


def test_a_failing_group_tries_a_call_when_told(site: GroupCommands) -> None:
    """`probe` makes the next probe due; without a pause for failures it is refused."""
    assert "is not paused" in str(site.run("probe", "slow").exception)
    key = site.shard.paused("slow")
    site.do(lambda server: server.hset(key, mapping={"why": "failing", "probe": "99999999999999", "tries": "3"}))

    assert orjson.loads(site.run("probe", "slow", "--json").output) == {"group": "slow", "probe": "due"}

    assert int(site.do(lambda server: server.hget(key, "probe"))) < 99999999999999
    site.do(lambda server: server.hset(key, "why", "operator"))
    assert "a person paused it" in str(site.run("probe", "slow").exception)
    assert "no group" in str(site.run("probe", "nobody").exception)


def test_nothing_is_dropped_unless_confirmed(site: GroupCommands) -> None:
    """The answer no, or no answer, leaves every group."""
    for answer in ("n\n", ""):
        assert site.run("drop", "slow", answer=answer).exit_code == 1
    assert "no group 'nobody'; the groups are: done, foreign, missing, slow" in str(
        site.run("drop", "nobody").exception
    )
    assert set(site.list_groups()) == {"done", "slow", "foreign", "missing"}


async def test_a_group_with_a_live_worker_is_not_dropped(valkey_url: str, server: Redis, shard: Shard) -> None:
    """A worker counts as alive while its heartbeat advances, also on one of two shards; not after it has stopped."""
    await add(server, shard, ["*"])
    other = Shard(shard.name, 1)
    await group(server, other, "log")
    await register(server, other, "log")

    async def lives_on_one() -> bool:
        liveness = (await groups.find_group(server, [shard, other], "log")).liveness
        return (liveness.alive, liveness.most_alive) == (0, 1)

    async with run_worker(redis_url=valkey_url, stream=shard.name, handlers="log"):
        await until(lambda: beats(server, shard))
        await until(lives_on_one)
    assert (await groups.find_group(server, [shard, other], "log")).liveness.most_alive == 0


async def beats(server: Redis, shard: Shard) -> bool:
    return bool(await server.hlen(shard.alive("log")))


def test_a_group_with_live_consumers_is_dropped_only_by_force(site: GroupCommands) -> None:
    """A consumer of a foreign group counts as alive for a minute after its last read; --force drops the group."""
    site.do(lambda server: server.xgroup_createconsumer(site.shard.stream, "foreign", "c"))
    result = site.run("drop", "foreign", "--yes")
    assert result.exit_code == 1
    assert "group 'foreign' has live consumers (1): stop its workers first" in str(result.exception)
    assert site.run("drop", "foreign", "--yes", "--force").exit_code == 0


async def test_a_consumer_that_returns_before_the_drop_prevents_it(server: Redis, shard: Shard) -> None:
    """`drop` checks the heartbeats again, because a worker can start after the question."""
    await add(server, shard, [1])
    await group(server, shard, "slow")
    await register(server, shard, "slow")
    await server.hset(shard.alive("slow"), "stopped", "7")
    state = await groups.find_group(server, [shard], "slow")
    assert state.liveness.alive == 0
    await server.hincrby(shard.alive("slow"), "stopped", 1)
    assert not await groups.drop_group(server, [shard], state, force=False, dead=True)
    assert await server.sismember(shard.groups, "slow")
    assert await groups.drop_group(server, [shard], state, force=True, dead=True)
    assert await server.xinfo_groups(shard.stream) == []


async def test_a_consumer_that_returns_on_the_second_shard_ends_the_drop(server: Redis, shard: Shard) -> None:
    """The first shard has lost the group by then: the error says so, and not that nothing is dropped."""
    shards = [shard, Shard(shard.name, 1)]
    for each in shards:
        await add(server, each, [1])
        await group(server, each, "slow")
        await register(server, each, "slow")
        await server.hset(each.alive("slow"), f"stopped-{each.number}", "7")
    state = await groups.find_group(server, shards, "slow")
    await server.hincrby(shards[1].alive("slow"), "stopped-1", 1)

    with pytest.raises(PartlyDone, match=r"dropped on shard 0 only \(a consumer has started\): stop its workers"):
        await groups.drop_group(server, shards, state, force=False, dead=False)

    assert [await server.sismember(each.groups, "slow") for each in shards] == [0, 1]
    assert await groups.drop_group(server, shards, state, force=True, dead=False)
