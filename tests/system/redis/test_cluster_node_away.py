"""A Redis Cluster with one primary away, and without a replica that takes over: commands and pages name it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.queries.shards import set_shards
from console.web.access.roles import Role
from console.web.metrics.gauges import OUTSTANDING
from stream.keys import Shard
from stream.redis.client import client
from stream.redis.cluster import split_shards
from stream.settings import StreamSettings
from tests.support.faults.node_away import (
    check_acts,
    check_busy,
    check_frozen,
    check_lost,
    check_lost_pages,
    check_reading,
    check_web_acts,
    hold,
    run,
)
from tests.support.http.console_server import Visitor, run_console
from tests.support.samples.events import body, entry, event
from tests.support.servers.clusters import Member, RedisCluster, run_cluster
from tests.support.streams.stored_messages import store_events
from tests.support.waiting import until
from worker.events.event import StatusEvent
from worker.group.consumer_group import create_group
from worker.group.group_ref import GroupRef

SHARDS = 4
"""The second primary has shards 1 and 2, the third one shard 0, the first one shard 3."""
GROUP = "g"
PAGES = ("invalid", "dead-letters", "quarantine", "replays", f"groups/{GROUP}", "messages", "messages/m-3")


async def fill(server: Redis, settings: StreamSettings) -> None:
    """Put an unread entry, an invalid payload and a dead letter on each shard, over connections that are open then."""
    shards = [Shard(settings.stream, number) for number in range(SHARDS)]

    async def is_connected() -> bool:
        try:
            return not (await split_shards(server, shards))[1]
        except RedisError:
            return False

    await until(is_connected)
    await set_shards(server, settings, SHARDS)
    for shard in shards:
        fields: Any = entry(body(message_uuid=f"m-{shard.number}")).to_fields()
        await create_group(GroupRef(server, shard, GROUP))
        entry_id: Any = await server.xadd(shard.stream, fields)
        origin = f"{shard.number}/{entry_id.decode()}"
        await server.xadd(shard.invalid, fields | {"error": "invalid-status: of an older version"})
        await server.xadd(shard.dead(GROUP), fields | {"origin": origin, "error": "attempts: ValueError at crm.py:7"})


def list_events() -> Sequence[StatusEvent]:
    """Return a status of one message on each shard."""
    statuses = ("submitted", "delivered", "read", "rejected")
    return [event(body(message_uuid="m-stored", status=status), at=f"{n}/1-0") for n, status in enumerate(statuses)]


def name_shards(node: str, *numbers: int) -> Sequence[Mapping[str, Any]]:
    """Return the shards of a node that was killed, as JSON names them."""
    return [{"shard": number, "node": node, "reason": "Connection refused"} for number in numbers]


async def check_commands(node: str) -> None:
    """Look at the commands without shards 1 and 2."""
    away = name_shards(node, 1, 2)
    stats, people, shards = await run("stats", "--json"), await run("stats"), await run("shards", "list", "--json")
    state, lines = orjson.loads(stats.stdout), orjson.loads(shards.stdout)["shards"]
    assert (state["away"], [line["shard"] for line in state["shards"]]) == (away, [0, 3])
    assert state["groups"][GROUP]["outstanding"] == SHARDS - 2
    assert [(line["state"], line["entries"]) for line in lines] == [
        *[("in use", 1), ("away", None)],
        *[("away", None), ("in use", 1)],
    ]
    assert [line["node"] for line in lines[1:3]] == [node, node]
    assert GROUP in people.stdout
    for result in (stats, people, shards, await run("shards", "list")):
        assert f"Node {node} does not answer for shards 1 and 2" in result.error
        assert "redis-cli --cluster check" in result.error


async def check_doctor(node: str, shards: str) -> None:
    """Look at the findings."""
    findings = orjson.loads((await run("doctor", "--no-probe", "--json")).stdout)["findings"]
    whats = {finding["id"]: finding["what"] for finding in findings}
    assert f"Node {node} of the cluster does not answer" in whats["redis.node-away"]
    assert f"It has {shards}." in whats["redis.node-away"]
    assert not {"check.failed", "check.no-answer", "redis.unusable"} & set(whats)


async def check_unknown_number(node: str) -> None:
    """Look at a command without shard 0, which has the number of shards."""
    error = f"{node} does not answer for shard 0 (Connection refused)"
    assert f"{error}, and shard 0 has the number" in (await run("stats")).error
    for words in (("groups", "pause", GROUP, "--why", "a test"), ("quarantine", "list")):
        assert f"{error}: start the node" in (await run(*words)).error


async def check_set_number() -> None:
    """Look at the commands without shard 0, with ACKSTREAM_SHARDS."""
    result = await run("shards", "list", "--json")
    assert "the number of shards is that of ACKSTREAM_SHARDS" in result.error
    assert [line["state"] for line in orjson.loads(result.stdout)["shards"]] == ["away", *["in use"] * 3]
    stats = orjson.loads((await run("stats", "--json")).stdout)
    assert stats["groups"][GROUP]["outstanding"] == SHARDS - 1


async def check_pages(person: Visitor, node: str) -> None:
    """Look at the pages that show the other shards, and at their JSON."""
    away = name_shards(node, 1, 2)

    overview = (await person.get("/api/v1/overview")).json()
    redis = overview["flow"]["redis"]
    assert (redis["away_shards"], redis["state"], redis["entries"]) == (away, "Partly away", SHARDS - 2)
    assert [row["outstanding"] for row in overview["groups"]] == [SHARDS - 2]
    groups = (await person.get("/api/v1/groups")).json()
    assert groups["away"] == away
    assert [group["unread"] for group in groups["groups"]] == [SHARDS - 2]
    nodes = (await person.get("/api/v1/settings")).json()["redis"]["nodes"]
    assert [each["node"] for each in nodes if each["away"]] == [node]
    assert [bool(each["version"] and each["memory_used"]) for each in nodes] == [not each["away"] for each in nodes]
    assert f"<code>{node}</code>" in (await person.get("/settings")).text
    for path in ("/", "/groups"):
        assert f"Node {node} does not answer for shards 1 and 2 (Connection refused)." in (await person.get(path)).text
    assert not [sample for metric in OUTSTANDING.collect() for sample in metric.samples]


async def check_lists(person: Visitor, node: str, *numbers: int) -> None:
    """Look at the pages that read the entries of the shards, and at their JSON."""
    away = name_shards(node, *numbers)
    for path in PAGES:
        page, answer = await person.get(f"/{path}"), await person.get(f"/api/v1/{path}")
        assert f"Node {node} does not answer for" in page.text, path
        assert answer.json()["away"] == away, path
    assert (await person.get("/api/v1/invalid")).json()["total"] == SHARDS - len(numbers)
    stored = (await person.get("/api/v1/messages/m-stored")).json()
    summaries = {webhook["entry"]: webhook["summary"] for webhook in stored["webhooks"]}
    assert [number for number in range(SHARDS) if summaries[f"{number}/1-0"] == "stored"] == list(numbers)
    plan = await person.get(f"/api/v1/replays?group={GROUP}")
    assert (plan.status, f"Node {node} does not answer for" in plan.json()["error"]) == (503, True)


async def check_all_entries(person: Visitor) -> None:
    """Look at the page with all shards: entries from before the console's start are not counted as new ones."""
    overview = (await person.get("/api/v1/overview")).json()
    redis = overview["flow"]["redis"]
    assert (redis["away_shards"], redis["entries"]) == ([], SHARDS)
    sentences = overview["verdict"]["sentences"]
    assert not [sentence for sentence in sentences if "webhook" in sentence and "kept" in sentence]


async def check_number(person: Visitor, node: str | None = None) -> None:
    """Look at the answer to an autoscaler, with all nodes or without this one."""
    answer = await person.get(f"/api/v1/groups/{GROUP}/outstanding")
    if node is None:
        assert answer.json() == {"outstanding": SHARDS}
        return
    assert answer.status == 503
    assert f"Node {node} does not answer for shards 1 and 2" in answer.json()["error"]


async def check_first_number(person: Visitor) -> None:
    """Look at the answers to an autoscaler from the return of shard 0 on: they are errors, then the right number."""
    numbers: list[int] = []

    async def has_number() -> bool:
        answer = await person.get(f"/api/v1/groups/{GROUP}/outstanding")
        if answer.status == 200:
            numbers.append(answer.json()["outstanding"])
        return SHARDS in numbers

    await until(has_number)
    assert set(numbers) == {SHARDS}


async def stop_cluster(cluster: RedisCluster, member: Member) -> None:
    """Kill the member, and return when the others refuse all commands, as they do with the default settings."""
    others = [each for each in cluster.members if each is not member]
    for other in others:
        await other.ask("CONFIG", "SET", "cluster-require-full-coverage", "yes", "cluster-node-timeout", "1000")
    member.node.kill()

    async def is_down() -> bool:
        return all([(await other.read_info())["cluster_state"] == "fail" for other in others])

    await until(is_down)


async def check_stopped_cluster(node: str) -> None:
    """Look at the commands while nodes answer, but serve no slot."""
    for arguments in (("stats",), ("shards", "list")):
        assert "the cluster is down" in (await run(*arguments)).error
    findings = orjson.loads((await run("doctor", "--no-probe", "--json")).stdout)["findings"]
    whats = {finding["id"]: finding["what"] for finding in findings}
    assert f"The Redis Cluster is down: node {node} does not answer." in whats["redis.cluster-down"]
    assert not {"check.failed", "check.no-answer", "redis.node-away", "redis.unusable"} & set(whats)


async def test_a_primary_that_is_away_is_named_and_the_others_are_shown(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands, pages and the autoscaler's number name the node with its shards, and no act is half done."""
    (tmp_path / "nodes").mkdir()
    async with run_cluster(tmp_path / "nodes", replicas=False) as cluster, client(cluster.url) as server:
        for name, value in (("STREAM", shard.name), ("REDIS_URL", cluster.url), ("DATA", tmp_path)):
            monkeypatch.setenv(f"ACKSTREAM_{name}", str(value))
        await fill(server, StreamSettings(redis_url=cluster.url, stream=shard.name))
        first, second, third = cluster.members
        async with run_console(tmp_path, cluster.url, shard.name) as console, console.visit(Role.ADMIN) as person:
            await hold(lambda: check_number(person))
            await hold(lambda: check_all_entries(person))
            pages = [*(f"/{path}" for path in PAGES), "/", "/groups", "/settings"]
            await hold(lambda: check_frozen(person, second, pages))
            await hold(lambda: check_busy(person, second))
            await hold(lambda: check_all_entries(person))
            await check_lost_pages(person, second, PAGES)
            await hold(lambda: check_number(person, second.address))
            await hold(lambda: check_pages(person, second.address))
            await store_events(console.settings.database_url, list_events())
            await hold(lambda: check_lists(person, second.address, 1, 2))
            await hold(lambda: check_web_acts(person, GROUP, second.address, (first, third)))
        await hold(lambda: check_commands(second.address))
        await hold(lambda: check_reading(GROUP, second.address))
        await hold(lambda: check_acts(GROUP, second.address, (first, third)))
        await hold(lambda: check_doctor(second.address, "shards 1 and 2"))
        (tmp_path / "new").mkdir()
        async with run_console(tmp_path / "new", cluster.url, shard.name) as new, new.visit(Role.ADMIN) as person:
            await hold(lambda: check_pages(person, second.address))
            await second.node.start()
            await until(cluster.agree)
            await hold(lambda: check_all_entries(person))
            await check_lost(cluster, second)
            await hold(lambda: check_all_entries(person))
            third.node.kill()
            await store_events(new.settings.database_url, list_events())
            await hold(lambda: check_lists(person, third.address, 0))
        await hold(lambda: check_unknown_number(third.address))
        monkeypatch.setenv("ACKSTREAM_SHARDS", str(SHARDS))
        await hold(check_set_number)
        await hold(lambda: check_doctor(third.address, "shard 0"))
        monkeypatch.delenv("ACKSTREAM_SHARDS")
        (tmp_path / "last").mkdir()
        async with run_console(tmp_path / "last", cluster.url, shard.name) as last, last.visit(Role.ADMIN) as person:
            await third.node.start()
            await check_first_number(person)
            await hold(lambda: check_all_entries(person))
        await stop_cluster(cluster, second)
        await hold(lambda: check_stopped_cluster(second.address))
