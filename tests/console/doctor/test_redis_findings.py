"""Faults of a Redis server and of its groups that `doctor` finds, each planted in an installation without any."""

import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from redis.exceptions import ResponseError

from console.doctor.redis.access import RIGHTS, check_access, judge_password
from console.doctor.redis.server import ServerState, check_redis, judge_replication
from stream.keys import Shard
from tests.support.checkup import GROUP, Installation
from tests.support.faults.redis_server import (
    become_replica,
    block_by_script,
    fail_snapshots,
    limit_memory,
    lose_replicas,
    make_fault,
)
from tests.support.servers.proxy import run_proxy, through
from tests.support.servers.redis_users import ACL_FILE, add_user
from tests.support.waiting import until
from worker.dispatch.pause import Pause, PauseReason, pause_by_hand
from worker.group.group_ref import GroupRef

DAY_SECONDS = 86_400
Plant = Callable[[Installation], AbstractAsyncContextManager[object]]


def configure(name: str, value: str, before: str) -> Plant:
    """Return a fault of a setting of the server, which is set back afterwards."""
    return make_fault(("CONFIG SET", name, value), ("CONFIG SET", name, before))


@asynccontextmanager
async def use_memory(place: Installation, share: float) -> AsyncIterator[None]:
    """The server uses this share of its memory."""
    info = await place.server.info("memory")
    used = info["used_memory"] - info["mem_not_counted_for_evict"]
    async with limit_memory(int(used / share))(place):
        yield


@asynccontextmanager
async def connect_many(place: Installation) -> AsyncIterator[None]:
    """Nearly as many clients are connected as the server allows."""
    port = int(urlsplit(place.url).port or 0)
    async with AsyncExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))

        async def are_connected() -> bool:
            return int((await place.server.info("clients"))["connected_clients"]) >= 300

        await until(are_connected)
        async with configure("maxclients", "320", "10000")(place):
            yield


@asynccontextmanager
async def want_fsync(place: Installation) -> AsyncIterator[None]:
    place.set({"ACK": "fsync"})
    async with configure("appendfsync", "everysec", "always")(place):
        yield


@asynccontextmanager
async def be_without_password(place: Installation) -> AsyncIterator[None]:
    """Every machine of the network reaches the server, and it asks for no password."""
    parts = urlsplit(place.url)
    place.set({"REDIS_URL": f"redis://127.0.0.1:{parts.port}"})
    await place.command("CONFIG SET", "protected-mode", "no", "bind", "*", "requirepass", "")
    yield
    password = str(parts.password)
    await place.command("CONFIG SET", "protected-mode", "yes", "bind", "127.0.0.1", "requirepass", password)


@asynccontextmanager
async def lack_rights(place: Installation) -> AsyncIterator[None]:
    """The user of the worker may not trim."""
    rules = ["resetkeys", f"~{place.shard.name}*", "+@all", "-xtrim", "-config|get"]
    place.set({"REDIS_URL": await add_user(place.server, place.url, "worker", *rules)})
    yield
    await place.command("ACL", "DELUSER", "worker")


@asynccontextmanager
async def know_another_password(place: Installation) -> AsyncIterator[None]:
    place.set({"REDIS_URL": re.sub(":[^:@]+@", ":wrong-password@", place.url)})
    yield


@asynccontextmanager
async def answer_late(place: Installation) -> AsyncIterator[None]:
    """Each reply takes a part of the time that ingest leaves to Redis."""
    async with run_proxy(int(urlsplit(place.url).port or 0)) as proxy:
        proxy.delay_seconds = 0.005
        place.set({"REDIS_URL": through(proxy, place.url), "ACK_BUDGET_MS": "20"})
        yield


@asynccontextmanager
async def add_foreign_group(place: Installation) -> AsyncIterator[None]:
    await place.server.xgroup_create(place.shard.stream, "another", "0")
    yield


@asynccontextmanager
async def lose_workers(place: Installation) -> AsyncIterator[None]:
    await place.add_group("orders", alive=False)
    yield


@asynccontextmanager
async def lose_group(place: Installation) -> AsyncIterator[None]:
    await place.server.xgroup_destroy(place.shard.stream, GROUP)
    yield


@asynccontextmanager
async def have_no_group(place: Installation) -> AsyncIterator[None]:
    place.set({"STREAM": f"{place.shard.name}-new"})
    yield


@asynccontextmanager
async def own_a_shard(place: Installation) -> AsyncIterator[None]:
    """A worker handles the group in order mode, and the settings say otherwise."""
    (consumer,) = await place.server.hkeys(place.shard.alive(GROUP))
    await place.server.set(place.shard.owner(GROUP), consumer)
    yield


@asynccontextmanager
async def pause(place: Installation) -> AsyncIterator[None]:
    await Pause(GroupRef(place.server, place.shard, GROUP), 100).start(PauseReason.FAILING)
    yield


@asynccontextmanager
async def pause_as_person(place: Installation) -> AsyncIterator[None]:
    await pause_by_hand(GroupRef(place.server, place.shard, GROUP), "ann", "a test")
    yield


@asynccontextmanager
async def want_a_longer_stream(place: Installation) -> AsyncIterator[None]:
    """The stream may have more bytes than Redis."""
    place.set({"RETENTION_BYTES": str(2**30)})
    async with limit_memory(2**30)(place):
        yield


@asynccontextmanager
async def have_another_type(place: Installation) -> AsyncIterator[None]:
    """Another program has written to a key of the stream."""
    place.set({"STREAM": f"{place.shard.name}-other"})
    await place.server.set(Shard(f"{place.shard.name}-other").groups, "x")
    yield


@asynccontextmanager
async def want_other_shards(place: Installation) -> AsyncIterator[None]:
    """The setting was changed after the first start."""
    await place.server.set(place.shard.layout, "1 1 1")
    place.set({"SHARDS": "4"})
    yield


def fall_behind(days: float) -> Plant:
    """Return a fault: the group has not read an entry of this age."""

    @asynccontextmanager
    async def run(place: Installation) -> AsyncIterator[None]:
        await place.append(days * DAY_SECONDS)
        yield

    return run


CASES: Sequence[tuple[Sequence[str], Plant]] = [
    (["redis.less-durable"], configure("appendfsync", "everysec", "always")),
    (["redis.less-durable"], configure("appendonly", "no", "yes")),
    (["redis.not-durable"], want_fsync),
    (["redis.evicts"], configure("maxmemory-policy", "allkeys-lru", "noeviction")),
    (["redis.no-limit"], limit_memory(0)),
    (["redis.limit-too-high"], limit_memory(2**50)),
    (["redis.memory-full"], lambda place: use_memory(place, 0.97)),
    (["redis.memory-high"], lambda place: use_memory(place, 0.9)),
    (["redis.memory-full"], lambda place: use_memory(place, 2)),
    (["redis.unusable"], have_another_type),
    (["settings.contradictory"], want_a_longer_stream),
    (["settings.without-effect"], want_other_shards),
    (["redis.snapshot-failed"], fail_snapshots),
    (["redis.replica"], become_replica),
    (["redis.replicas-missing"], lose_replicas),
    (["redis.clients"], connect_many),
    (["redis.no-password"], be_without_password),
    (["redis.rights", "redis.hidden"], lack_rights),
    (["redis.unusable"], know_another_password),
    (["redis.slow"], answer_late),
    (["group.none"], have_no_group),
    (["group.missing"], lose_group),
    (["group.no-worker"], lose_workers),
    (["group.order"], own_a_shard),
    (["group.paused"], pause),
    (["group.paused-by-hand"], pause_as_person),
    (["group.foreign"], add_foreign_group),
    (["group.past-retention"], fall_behind(8)),
    (["group.behind"], fall_behind(4)),
]
"""The findings, and the fault that causes them."""


@pytest.mark.parametrize(("findings", "plant"), CASES)
async def test_a_planted_fault_of_redis_is_found(healthy: Installation, findings: Sequence[str], plant: Plant) -> None:
    """Doctor finds it and nothing else."""
    async with plant(healthy):
        report = await healthy.run()

    assert [finding.id for finding in report.findings] == findings
    assert str(urlsplit(healthy.url).password) not in repr(report.summary())


async def test_a_server_that_a_script_keeps_busy_is_called_busy_only(healthy: Installation) -> None:
    """It says nothing about rights, also if the script starts after the first answer of the server."""
    async with block_by_script(healthy):
        whole = await healthy.examine()
        for check in (check_redis, check_access):
            with pytest.raises(ResponseError, match="busy"):
                await check(healthy.server, healthy.load())

    assert whole == ["redis.unusable"]


@pytest.mark.parametrize(("seconds", "finding"), [(3600, "clock.skew"), (-10, "clock.drift")])
async def test_a_clock_that_differs_is_found(healthy: Installation, seconds: float, finding: str) -> None:
    """The machine's clock is an hour ahead of the server's, or ten seconds behind."""
    assert await healthy.examine(clock=lambda: time.time() + seconds) == [finding]


async def test_the_rights_are_those_of_the_example_users(healthy: Installation) -> None:
    """Doctor asks for each command of deploy/redis-users.acl, and finds that each example user has its own."""
    for line in ACL_FILE.splitlines()[1:]:
        _, role, _, _, *rules = line.split()
        commands = {rule.strip("()")[1:] for rule in rules if rule.strip("()").startswith("+")}
        asked = {example.split()[0] for example in RIGHTS[role]}
        assert {name.partition("|")[0] for name in commands} == {name.partition("|")[0] for name in asked}
        rights = " ".join(rules).replace("vonage:status", healthy.shard.name)
        url = await add_user(healthy.server, healthy.url, role, *_split_selectors(rights))
        healthy.set({"REDIS_URL": url})
        assert "redis.rights" not in await healthy.examine()
        await healthy.command("ACL", "DELUSER", role)


@pytest.mark.parametrize(("order", "is_asked"), [("none", False), ("message", True)])
async def test_the_rights_of_order_mode_are_asked_for_there_only(
    healthy: Installation, order: str, is_asked: bool
) -> None:
    """The user of a worker without order mode needs no more rights than before."""
    rules = ["resetkeys", f"~{healthy.shard.name}*", "+@all", "-xread", "-zscan"]
    healthy.set({"ORDER": order, "REDIS_URL": await add_user(healthy.server, healthy.url, "worker", *rules)})

    findings = await healthy.examine()
    await healthy.command("ACL", "DELUSER", "worker")

    assert ("redis.rights" in findings) is is_asked


def _split_selectors(rights: str) -> list[str]:
    """Return the rules of a line; a selector in brackets is one rule."""
    return re.findall(r"\([^)]*\)|\S+", rights)


def test_a_password_is_needed_where_others_reach_the_server() -> None:
    """A public address is a problem, a private one a note, and loopback neither."""
    judged = [
        [finding.id for finding in judge_password("redis://x", [address], {})]
        for address in ("93.184.216.34", "10.1.2.3", "127.0.0.1", "::1")
    ]

    assert judged == [["redis.open"], ["redis.no-password"], [], []]


def test_a_replica_that_is_behind_is_found() -> None:
    """It is connected, and has not answered for a while; the other one is up to date."""
    replica = {"ip": "10.0.0.2", "port": 6379, "state": "online", "lag": 1}
    state = ServerState(
        {}, {"role": "master", "connected_slaves": 2, "slave0": replica, "slave1": {**replica, "lag": 60}}
    )

    assert [finding.id for finding in judge_replication(state, "redis://x")] == ["redis.replica-behind"]
    assert list(judge_replication(replace(state, info={**state.info, "connected_slaves": 1}), "redis://x")) == []
