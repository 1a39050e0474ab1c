"""A Redis Cluster: three primaries with a replica each, and a stream of four shards. `make cluster` takes longer."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from console.queries.run.parts import RedisPart, read_nodes
from console.queries.shards import list_shards, set_shards
from console.web.access.roles import Role
from console.web.sampling.redis_reader import RedisReader
from stream.keys import Shard
from stream.redis.client import client
from stream.redis.cluster import list_nodes
from stream.redis.errors import CLUSTER, DENIED, NO_CLUSTER, SLOT_DOWN, identify_fault
from stream.settings import StreamSettings
from stream.shard_watch import ShardWatch
from tests.support.commands import run_command
from tests.support.databases import make_sqlite
from tests.support.faults.redis_faults import catch_error
from tests.support.faults.redis_outages import read_metric
from tests.support.http.console_server import run_console
from tests.support.http.load import LOAD_SECONDS, SENDERS, Load, open_load
from tests.support.in_process import run_ingest, run_worker
from tests.support.processes import becomes
from tests.support.samples.events import body, entry
from tests.support.servers.clusters import Member, RedisCluster, open_disk, run_cluster
from tests.support.waiting import until
from tests.support.workers.recording import GROUP, run_recording_workers
from tests.support.workers.store_rows import read_rows
from worker.dispatch.backlog import Backlog
from worker.dispatch.pause import Pause
from worker.group.consumer_group import create_group
from worker.group.group_ref import GroupRef
from worker.retention.pages import raw_ranges
from worker.retention.policy import RetentionPolicy
from worker.retention.trimmer import Trimmer
from worker.store.database import open_engine

# Read at import, because a test sees no setting of the machine.
WEBHOOKS = int(os.environ.get("ACKSTREAM_CLUSTER_WEBHOOKS", "50"))
ROUNDS = max(1, WEBHOOKS // 1000)
FAIL_OVERS = [("killed", 3)] if WEBHOOKS < 1000 else [("killed", 3), ("killed", 0), ("frozen", 3), ("frozen", 0)]
"""What happens to a primary, and a shard that it has."""
SHARDS = 4
DAY_MS = 86_400_000


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RedisCluster]:
    (tmp_path / "nodes").mkdir()
    async with run_cluster(tmp_path / "nodes") as cluster:
        yield cluster


@pytest.fixture
async def server(cluster: RedisCluster) -> AsyncIterator[Redis]:
    async with client(cluster.url) as server:
        yield server


def shards_of(shard: Shard) -> list[Shard]:
    return [Shard(shard.name, number) for number in range(SHARDS)]


def slot_of(shard: Shard) -> int:
    return key_slot(shard.stream.encode())


async def read_all(server: Redis, shard: Shard) -> set[str]:
    """Return the messages that have an entry on any shard."""
    parts: list[Any] = [await server.xrange(each.stream) for each in shards_of(shard)]
    return {orjson.loads(fields[b"payload"])["message_uuid"] for entries in parts for _, fields in entries}


async def read_disk(dead: Member, cluster: RedisCluster, shard: Shard, folder: Path) -> set[str]:
    """Return the messages in the append-only file of a dead node."""
    async with open_disk(dead, cluster, folder) as server:
        return await read_all(server, shard)


async def fail_over(cluster: RedisCluster, shard: Shard, fault: str, load: Load) -> Member:
    """Kill the node that has the shard, or freeze it until its replica has the slot; return it."""
    old = await cluster.find_owner(slot_of(shard))
    process = old.node.process
    if fault == "killed":
        process.kill()
    else:
        process.send(signal.SIGSTOP)
    await cluster.is_replaced(slot_of(shard), old)
    await load.keeps(WEBHOOKS)
    if fault == "frozen":
        process.send(signal.SIGCONT)
        await load.keeps(WEBHOOKS)
    return old


async def move_shard(cluster: RedisCluster, shard: Shard, load: Load) -> None:
    """Move the slot of the shard to the next primary, and send more webhooks then."""
    owner = await cluster.find_owner(slot_of(shard))
    primaries = cluster.members[:3]
    await cluster.move_slot(slot_of(shard), primaries[(primaries.index(owner) + 1) % len(primaries)])
    await load.keeps(WEBHOOKS)


@pytest.mark.parametrize(("fault", "number"), FAIL_OVERS)
async def test_a_slot_moves_and_a_primary_fails_under_load(
    cluster: RedisCluster, server: Redis, shard: Shard, tmp_path: Path, fault: str, number: int
) -> None:
    """A move loses nothing, a fail-over only what the old node alone had. No group is stuck, no event has two rows."""
    settings = StreamSettings(redis_url=cluster.url, stream=shard.name)
    common: dict[str, Any] = {"redis_url": cluster.url, "stream": shard.name, "data": tmp_path, "shards": SHARDS}
    engine = open_engine(database_url := make_sqlite(tmp_path / "ackstream.db"))
    moving, failing = Shard(shard.name, 2), Shard(shard.name, number)
    seconds = LOAD_SECONDS + WEBHOOKS / 10

    async def is_settled() -> bool:
        lines = (await list_shards(server, settings)).lines
        return not read_metric("spool_entries") and not any(line.outstanding for line in lines)

    async with (
        run_ingest(**common) as ingest,
        run_worker(**common, handlers="store", database_url=database_url),
        open_load(ingest.url, pause_seconds=0.04, seconds=seconds) as load,
    ):
        await load.keeps(WEBHOOKS)
        for _ in range(ROUNDS):
            await move_shard(cluster, moving, load)
        epoch = await cluster.find_epoch()
        old = await fail_over(cluster, failing, fault, load)
        load.enough.set()
        await until(is_settled, seconds=seconds)
        events = (await read_rows(engine))[1]
        rows = [row["event"].message_uuid for row in events.values()]
    await engine.dispose()
    on_stream = await read_all(server, shard)
    gone = set(load.accepted_ids) - on_stream
    print(f"{len(load.accepted_ids)} answered 200, {len(gone)} lost by the fail-over")  # noqa: T201 - shown with pytest -s

    assert on_stream <= set(rows)
    assert len(rows) == len(set(rows))
    assert all([await server.xlen(each.stream) for each in shards_of(shard)])
    if await cluster.find_epoch() != epoch + 1:  # a machine that stalls may start further fail-overs
        return
    if fault == "killed":
        assert gone <= await read_disk(old, cluster, shard, tmp_path / "disk")
    else:
        assert len(gone) <= SENDERS


async def run(*arguments: str) -> Any:
    """Run a command in a thread, because it has an event loop of its own; return its JSON."""
    return (await asyncio.to_thread(run_command, *arguments, "--json")).json


@pytest.fixture
def configured(cluster: RedisCluster, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StreamSettings:
    """The settings that commands read here."""
    monkeypatch.setenv("ACKSTREAM_STREAM", shard.name)
    monkeypatch.setenv("ACKSTREAM_REDIS_URL", cluster.url)
    monkeypatch.setenv("ACKSTREAM_DATA", str(tmp_path))
    return StreamSettings(redis_url=cluster.url, stream=shard.name)


async def append_all(server: Redis, shard: Shard, *message_uuids: str) -> None:
    """Append a status of each message to each shard, all in one pipeline."""
    async with server.pipeline() as pipe:
        for each in shards_of(shard):
            for message_uuid in message_uuids:
                fields: Any = entry(body(message_uuid=f"{message_uuid}-{each.number}")).to_fields()
                pipe.xadd(each.stream, fields)
        await pipe.execute()


async def test_commands_read_all_nodes(
    cluster: RedisCluster, server: Redis, shard: Shard, configured: StreamSettings, tmp_path: Path, valkey_url: str
) -> None:
    """Each command finds what is on any node, doctor checks every node, and a wrong kind of URL is named."""
    await set_shards(server, configured, SHARDS)
    await append_all(server, shard, "ok", "discard")
    with run_recording_workers(cluster.url, server, shard, tmp_path) as site:
        await site.start()
        await becomes(lambda: len(site.times("done")) >= SHARDS)

        async def is_idle() -> bool:
            return bool((await run("stats"))["groups"][GROUP]["outstanding"] == 0)

        await until(is_idle)
        lines = (await run("shards", "list"))["shards"]
        owners = [(await cluster.find_owner(slot_of(each))).address for each in shards_of(shard)]
        assert [line["node"] for line in lines] == owners
        assert [(line["entries"], line["dead"]) for line in lines] == [(2, 1)] * SHARDS
        letters = (await run("dead-letters", "list"))["dead_letters"]
        assert sorted(letter["id"][:2] for letter in letters) == [f"{number}/" for number in range(SHARDS)]
        started = await run("replay", "run", "--group", GROUP, "--detach")
        await becomes(lambda: sum(site.times("done").values()) >= 2 * SHARDS)
        [replayed] = (await run("replay", "list"))["replays"]
        assert (replayed["replay"], started["total"]) == (started["replay"], 2 * SHARDS)

        async def are_dead() -> bool:
            return bool(sum(line["dead"] for line in (await run("shards", "list"))["shards"]) == 2 * SHARDS)

        await until(are_dead)
        await show_pages(cluster, shard, tmp_path)
    erased = await run("erase", "--message", "ok-3", "--yes")
    assert erased["erased"]["stream"] == 1
    async with server.pipeline(transaction=False) as pipe:
        for each in shards_of(shard):
            pipe.xlen(each.stream)
        assert await pipe.execute() == [2, 2, 2, 1]
    first, second = await trim_large(cluster, server, shard, tmp_path)
    assert first == [5, 5, 5, 5]
    assert (second[0], second[1] < 5, second[2] < 5, second[3]) == (5, True, True, 5)  # 1 and 2 are on one node
    await check_nodes(cluster, server, shard, owners)
    other = valkey_url.replace("redis://", "redis+cluster://")
    assert identify_fault(await catch_error(ask_wrongly(other, shard))) is NO_CLUSTER


async def check_nodes(cluster: RedisCluster, server: Redis, shard: Shard, owners: Sequence[str]) -> None:
    """Look at each node as console and doctor do, the last shard without a node, and a node as if it were alone."""
    assert (await list_nodes(server, [each.stream for each in shards_of(shard)])).keys() == set(owners)
    reader = RedisReader(server, ShardWatch(server, StreamSettings(stream=shard.name)).find_shards)
    assert await reader.read()
    assert (reader.sample.entries, reader.sample.away, not reader.sample.memory_used) == (2 * SHARDS - 1, None, False)

    last = Shard(shard.name, SHARDS - 1)
    await until(lambda: cluster.drop_slot(slot_of(last)))
    report = (await asyncio.to_thread(run_command, "doctor", "--no-probe", "--json")).stdout
    findings = orjson.loads(report)["findings"]
    assert "redis.no-node" in {finding["id"] for finding in findings}
    durability = {finding["what"] for finding in findings if finding["id"] == "redis.less-durable"}
    assert len(durability) == len(set(owners[: last.number]))
    assert identify_fault(await catch_error(server.xlen(last.stream))) is SLOT_DOWN
    assert await read_nodes(server, [last]) == {"": RedisPart(away=SLOT_DOWN.sentence)}
    assert identify_fault(await catch_error(ask_wrongly(f"redis://:{cluster.password}@{owners[0]}", shard))) is CLUSTER
    assert identify_fault(await catch_error(ask_wrongly(f"redis+cluster://:wrong@{owners[0]}", shard))) is DENIED
    await work_without_node(cluster, server, shard)


async def work_without_node(cluster: RedisCluster, server: Redis, shard: Shard) -> None:
    """Read the limits of a group, trim a shard, and read a group with the name of a word, without the last node."""
    parts, home, policy = shards_of(shard), GroupRef(server, shard, GROUP), RetentionPolicy(0, 1, together=False)
    await Pause(home, 1, shards=parts).refresh()
    await Backlog(home, shards=parts).measure()
    await (watch := ShardWatch(server, StreamSettings(stream=shard.name))).refresh()
    async with raw_ranges(client(cluster.url)) as ranges:
        await ranges.delete(parts[1].trimmer)
        await Trimmer(ranges, parts[1], policy, None, watch=watch).run_once(asyncio.Event())
    assert await server.xlen(parts[1].stream) == 0
    await create_group(GroupRef(server, shard, "streams"))
    assert await server.xreadgroup("streams", "consumer", {shard.stream: ">"}, count=1)


async def trim_large(cluster: RedisCluster, server: Redis, shard: Shard, folder: Path) -> tuple[list[int], list[int]]:
    """Trim shards of 5 MiB each with 32, then 16 MiB of memory for each node; return their lengths after both."""
    settings = StreamSettings(redis_url=cluster.url, stream=f"{shard.name}-large", data=folder)
    await set_shards(server, settings, SHARDS)
    watch, policy = ShardWatch(server, settings), RetentionPolicy(DAY_MS, None, together=False)
    for each in await watch.find_shards():
        await create_group(GroupRef(server, each, "g"))
        for _ in range(5):
            await server.xadd(each.stream, {"payload": bytes(2**20)})
        await server.xgroup_setid(each.stream, "g", "$")

    async def trim(memory: str) -> list[int]:
        for member in cluster.members:
            await member.ask("CONFIG SET", "maxmemory", memory)
        async with raw_ranges(client(cluster.url)) as ranges:
            for each in watch.shards:
                await Trimmer(ranges, each, policy, None, watch=watch).run_once(asyncio.Event())
                await ranges.delete(each.trimmer)
        return [await server.xlen(each.stream) for each in watch.shards]

    return await trim("32mb"), await trim("16mb")


async def show_pages(cluster: RedisCluster, shard: Shard, folder: Path) -> None:
    """Look at the pages that read all shards."""
    pages = ("/", "/dead-letters", "/groups", f"/groups/{GROUP}", "/replays", "/invalid", "/quarantine")
    async with run_console(folder, cluster.url, shard.name) as console, console.visit(Role.ADMIN) as person:
        assert [(await person.get(page)).status for page in pages] == [200] * len(pages)
        assert (await person.get(f"/api/v1/groups/{GROUP}")).json()["dead"] == 2 * SHARDS


async def ask_wrongly(url: str, shard: Shard) -> None:
    """Read all shards from this URL."""
    async with client(url) as server:
        await asyncio.gather(*(server.xlen(each.stream) for each in shards_of(shard)))
