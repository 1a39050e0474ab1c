"""`ackstream groups list` and `drop`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner, Result

from console.main import app
from console.queries import groups
from stream.keys import Shard
from stream.redis import client as connect
from tests.support.in_process import working
from tests.support.streams.retention import add, group, register
from tests.support.waiting import until


@dataclass(frozen=True, slots=True)
class Site:
    """A stream, and the commands on it."""

    url: str
    shard: Shard

    def run(self, *arguments: str, answer: str = "") -> Result:
        """Run `ackstream groups …`."""
        return CliRunner().invoke(app, ["groups", *arguments, "--redis-url", self.url], input=answer)

    def listed(self) -> dict[str, dict[str, Any]]:
        result = self.run("list", "--json")
        assert result.exit_code == 0, result.output
        return {one.pop("group"): one for one in orjson.loads(result.output)["groups"]}

    def do(self, act: Callable[[Redis], Awaitable[Any]]) -> Any:
        """Do something on the server."""

        async def doing() -> Any:
            async with connect.client(self.url) as server:
                return await act(server)

        return asyncio.run(doing())


@pytest.fixture
def site(valkey_url: str, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Ten entries; groups that have read all, some and none of them, one that is missing, and a foreign one."""
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

    made = Site(valkey_url, shard)
    made.do(prepare)
    return made


def test_every_group_is_listed_with_what_is_kept_for_it(site: Site) -> None:
    """Registered or not, there or not; what is kept counts from the oldest entry that the group needs."""
    found = site.listed()
    sizes = {name: one.pop("kept_bytes") for name, one in found.items()}
    ages = {name: one.pop("oldest_seconds") for name, one in found.items()}
    here = {
        "registered": True,
        "exists": True,
        "alive": 0,
        "dead": 0,
        "paused": None,
        "checkpoint": None,
        "kept_exact": True,
    }
    assert found == {
        "done": here | {"unread": 0, "pending": 0, "kept_entries": 0},
        "slow": here | {"unread": 5, "pending": 3, "kept_entries": 8, "checkpoint": "0/2-0", "dead": 1},
        "foreign": here | {"unread": 10, "pending": 0, "kept_entries": 10, "registered": False},
        "missing": here | {"unread": None, "pending": 0, "kept_entries": 3, "checkpoint": "0/7-0", "exists": False},
    }
    assert sizes["done"] == 0
    assert 0 < sizes["missing"] < sizes["slow"] < sizes["foreign"]
    assert ages["done"] is None
    assert 50 * 365 * 86_400 < ages["missing"] < ages["foreign"]
    assert "foreign" in site.run("list").output


def test_a_long_way_behind_is_not_counted_to_its_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the number is a least one, and says so."""
    monkeypatch.setattr(groups, "COUNTED_AT_MOST", 2)
    found = site.listed()
    assert [(found[name]["kept_entries"], found[name]["kept_exact"]) for name in ("slow", "missing", "foreign")] == [
        (8, False),
        (2, False),
        (10, True),
    ]


def test_a_stream_without_groups_lists_none(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is no stream at all."""
    monkeypatch.setenv("ACKSTREAM_STREAM", "nothing-here")
    site = Site(valkey_url, Shard("nothing-here"))
    assert site.listed() == {}
    assert "no groups" in site.run("list").output
    assert "the groups are: none yet" in str(site.run("drop", "x").exception)


async def _keys(server: Redis, shard: Shard) -> set[str]:
    return {key.decode().removeprefix(f"{shard.stream}:") async for key in server.scan_iter(f"{shard.name}:*")}


def test_a_dropped_group_is_gone_and_its_dead_letters_stay(site: Site) -> None:
    """It is told what goes with it; another group, and the letters unless asked, are left."""
    shard = site.shard
    everything = {shard.stream, "groups", "checkpoint:missing", "checkpoint:slow", "dead:slow"}
    site.do(lambda server: server.hset(shard.alive("slow"), "killed", "7"))
    site.do(lambda server: server.xadd(f"{shard.stream}:retry:slow", {"a": "b"}))
    result = site.run("drop", "slow", "--yes")
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert "Discarded with group 'slow': 5 unread entries, 3 in flight" in told
    assert "Its 1 dead letters are kept" in told
    assert set(site.listed()) == {"done", "foreign", "missing"}
    assert site.do(lambda server: _keys(server, shard)) == everything - {"checkpoint:slow"}
    shown = CliRunner().invoke(app, ["dead-letters", "list", "--group", "slow", "--redis-url", site.url, "--json"])
    assert len(orjson.loads(shown.output)["dead_letters"]) == 1


def test_dead_letters_go_with_a_group_when_asked(site: Site) -> None:
    """Then nothing of the group is left."""
    told = " ".join(site.run("drop", "slow", "--yes", "--dead").output.split())
    assert "1 dead letters are discarded too" in told
    assert site.do(lambda server: server.exists(site.shard.dead("slow"))) == 0


@pytest.mark.parametrize("name", ["foreign", "missing"])
def test_a_group_that_is_foreign_or_missing_is_dropped_likewise(site: Site, name: str) -> None:
    """Each may hold entries back, so each may be given up."""
    assert site.run("drop", name, answer="y\n").exit_code == 0
    assert name not in site.listed()


def test_nothing_is_dropped_unless_confirmed(site: Site) -> None:
    """A no, or nobody to ask, leaves everything."""
    for answer in ("n\n", ""):
        assert site.run("drop", "slow", answer=answer).exit_code == 1
    assert "no group 'nobody'; the groups are: done, foreign, missing, slow" in str(
        site.run("drop", "nobody").exception
    )
    assert set(site.listed()) == {"done", "slow", "foreign", "missing"}


async def test_a_group_with_a_live_worker_is_not_dropped(valkey_url: str, server: Redis, shard: Shard) -> None:
    """It counts as alive while its heartbeat moves, and no longer once it has stopped."""
    await add(server, shard, ["*"])
    async with working(redis_url=valkey_url, stream=shard.name, handlers="log"):
        await until(lambda: beats(server, shard))
        state = await groups.find_group(server, shard, "log")
        assert state.liveness.alive == 1
    assert (await groups.find_group(server, shard, "log")).liveness.alive == 0


async def beats(server: Redis, shard: Shard) -> bool:
    return bool(await server.hlen(shard.alive("log")))


def test_a_live_consumer_is_told_by_number(site: Site) -> None:
    """A foreign group's lives if it has come within a minute; --force does it all the same."""
    site.do(lambda server: server.xgroup_createconsumer(site.shard.stream, "foreign", "c"))
    result = site.run("drop", "foreign", "--yes")
    assert result.exit_code == 1
    assert "group 'foreign' has live consumers (1): stop its workers first" in str(result.exception)
    assert site.run("drop", "foreign", "--yes", "--force").exit_code == 0


async def test_a_consumer_that_comes_back_meanwhile_saves_its_group(server: Redis, shard: Shard) -> None:
    """Between question and act a worker may start: the act looks once more."""
    await add(server, shard, [1])
    await group(server, shard, "slow")
    await register(server, shard, "slow")
    await server.hset(shard.alive("slow"), "stopped", "7")
    state = await groups.find_group(server, shard, "slow")
    assert state.liveness.alive == 0
    await server.hincrby(shard.alive("slow"), "stopped", 1)
    assert not await groups.drop_group(server, shard, state, force=False, dead=True)
    assert await server.sismember(shard.groups, "slow")
    assert await groups.drop_group(server, shard, state, force=True, dead=True)
    assert await server.xinfo_groups(shard.stream) == []
