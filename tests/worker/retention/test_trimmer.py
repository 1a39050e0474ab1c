import asyncio
import os
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from structlog.testing import capture_logs

from console.queries.shards import set_shards
from stream.keys import Shard
from stream.redis import client as connect
from stream.settings import StreamSettings
from stream.shard_watch import ShardWatch
from tests.support.fake_clock import FakeClock
from tests.support.in_process import run_worker
from tests.support.processes import Valkey
from tests.support.samples.events import body
from tests.support.servers.redis_users import ACL_FILE, add_user
from tests.support.streams.losses import NOTHING, count_missing
from tests.support.streams.retention import LARGE, OLD, add, group, read_ids, register, trim_once
from tests.support.streams.settled import append_payloads
from tests.support.waiting import until
from worker.retention.archive_reader import read
from worker.retention.archive_writer import Archive
from worker.retention.pages import raw_ranges
from worker.retention.policy import RetentionPolicy
from worker.retention.trimmer import Trimmer


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"ackstream_{name}", labels)


async def test_a_worker_trims(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> None:
    """A worker archives and removes the old entries of all shards that its groups have handled, and counts them.

    The small file of one shard does not let the others wait.
    """
    before = {name: metric(name) or 0 for name in ("trimmed_entries_total", "archived_entries_total")}
    fields: Any = {b"payload": b"from 1970"}
    shards = [Shard(shard.name, number) for number in range(3)]
    for each in shards:
        ids = [await server.xadd(each.stream, fields, id=f"{ms}-0") for ms in range(1, 6)]
        await append_payloads(server, each, body())
    async with run_worker(redis_url=valkey_url, stream=shard.name, handlers="log", archive=tmp_path / "archive"):
        await until(partial(is_left, server, shard, 1))
        await set_shards(server, StreamSettings(stream=shard.name), len(shards))
        for each in shards:
            await until(partial(is_left, server, each, 1))
            assert metric("stream_entries", shard=str(each.number)) is not None
    for each in shards:
        assert [entry.id.redis.encode() for entry in read(tmp_path / "archive", each.stream)] == ids
        assert await server.get(each.trimmer) is None
        assert await server.xlen(each.dead("log")) == 5
    assert {name: metric(name) for name in before} == {name: value + 15 for name, value in before.items()}


async def is_left(server: Redis, shard: Shard, entries: int) -> bool:
    return bool(await server.xlen(shard.stream) == entries)


async def test_a_worker_with_retention_off_trims_nothing(valkey_url: str, server: Redis, shard: Shard) -> None:
    """With retention off, it does not even take the lease."""
    await add(server, shard, [1])
    async with run_worker(redis_url=valkey_url, stream=shard.name, handlers="log", retention="off"):
        await until(lambda: dead(server, shard, 1))
        assert await server.get(shard.trimmer) is None
    assert await read_ids(server, shard) == [b"1-0"]


async def dead(server: Redis, shard: Shard, entries: int) -> bool:
    return bool(await server.xlen(shard.dead("log")) == entries)


async def test_a_worker_trims_with_the_rights_that_the_example_gives(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path
) -> None:
    """The user of the worker in deploy/redis-users.acl has enough rights."""
    (rights,) = re.findall(r"user worker .*? -@all (.*)", ACL_FILE)
    url = await add_user(server, valkey_url, f"{shard.name}-worker", f"~{shard.name}:*", *rights.split())
    await add(server, shard, range(1, 11))
    await group(server, shard, "done", read=10)
    await group(server, shard, "slow", read=5)
    await register(server, shard, "done")
    await trim_once(url, shard, OLD, Archive(tmp_path))
    assert await read_ids(server, shard) == [b"%d-0" % ms for ms in range(6, 11)]


async def test_groups_that_block_trimming_are_reported(valkey_url: str, server: Redis, shard: Shard) -> None:
    """The report has the name, the entries and their age while the group blocks; other groups are not named."""
    await add(server, shard, range(1, 11))
    await group(server, shard, "slow", read=5, ack=2)
    await group(server, shard, "done", read=10)
    await group(server, shard, "foreign", read=4)
    await register(server, shard, "slow", "done")
    with capture_logs() as logs:
        await trim_once(valkey_url, shard, OLD)
    assert {line["group"]: line["entries"] for line in logs if line["event"] == "retention.blocked"} == {
        "slow": 8,
        "foreign": 6,
    }
    assert await read_ids(server, shard) == [b"%d-0" % ms for ms in range(3, 11)]
    assert [metric("retention_blocked_entries", group=name, shard="0") for name in ("slow", "foreign", "done")] == [
        8,
        6,
        None,
    ]
    assert (metric("retention_blocked_seconds", group="slow", shard="0") or 0) > 40 * 365 * 86_400
    await server.xack(shard.stream, "slow", *(b"%d-0" % ms for ms in range(3, 6)))
    await server.xgroup_setid(shard.stream, "slow", "$")
    await server.xgroup_destroy(shard.stream, "foreign")
    await trim_once(valkey_url, shard, OLD)
    assert await read_ids(server, shard) == []
    assert [metric("retention_blocked_entries", group=name, shard="0") for name in ("slow", "foreign")] == [None, None]


async def report_forgotten(trimmer: Trimmer) -> list[bool]:
    """Run the trimmer once, and return whether each reported group counts as forgotten."""
    with capture_logs() as logs:
        await trimmer.run_once(asyncio.Event())
    return [line["forgotten"] for line in logs if line["event"] == "retention.blocked"]


async def test_a_group_without_workers_is_reported_as_forgotten(server: Redis, shard: Shard) -> None:
    """Without a consumer for an hour and without a heartbeat it is reported once a minute, and its entries stay."""
    await add(server, shard, [1])
    await group(server, shard, "g")
    clock = FakeClock()
    trimmer = Trimmer(server, shard, OLD, None, clock=clock)
    assert await report_forgotten(trimmer) == [True]
    assert await report_forgotten(trimmer) == []
    clock.now += 61
    await server.hset(shard.alive("g"), "c", "1")
    assert await report_forgotten(trimmer) == [False]
    clock.now += 61
    assert await report_forgotten(trimmer) == [True]  # the counter of a killed worker no longer changes
    clock.now += 61
    await server.hincrby(shard.alive("g"), "c", 1)
    assert await report_forgotten(trimmer) == [False]
    clock.now += 61
    await server.xgroup_createconsumer(shard.stream, "g", "foreign")
    assert await report_forgotten(trimmer) == [False]
    await server.xclaim(shard.stream, "g", "foreign", 0, ["1-0"])
    assert await read_ids(server, shard) == [b"1-0"]


async def test_the_account_outlives_a_restart(tmp_path: Path, shard: Shard) -> None:
    """After a restart, also with a rewritten append-only file, no entry counts as missing."""
    async with Valkey(tmp_path / "valkey").run() as valkey:
        server = connect.client(valkey.url)
        await add(server, shard, range(1, 101))
        await group(server, shard, "done", read=60)
        await register(server, shard, "done")
        await trim_once(valkey.url, shard, OLD)
        await server.bgrewriteaof()
        await until(lambda: rewritten(server))
        valkey.kill()
        await valkey.start()
        assert len(await read_ids(server, shard)) == 40
        assert await count_missing(Trimmer(server, shard, NOTHING, None)) == 0
        await server.aclose()


async def rewritten(server: Redis) -> bool:
    state: Any = await server.info("persistence")
    return not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]


async def test_groups_that_may_have_lost_entries_are_named(valkey_url: str, server: Redis, shard: Shard) -> None:
    """The log names the groups that had not settled the missing entries; the counter has their number."""
    await add(server, shard, range(1, 11))
    await group(server, shard, "slow", read=5, ack=2)
    await group(server, shard, "done", read=10)
    await register(server, shard, "slow", "done")
    await trim_once(valkey_url, shard, OLD)
    before = metric("missing_entries_total") or 0
    await server.xtrim(shard.stream, minid="9", approximate=False)
    with capture_logs() as logs:
        await trim_once(valkey_url, shard, OLD)
    (line,) = [line for line in logs if line["event"] == "retention.missing"]
    assert (line["entries"], line["groups_that_may_lack_them"]) == (6, ["slow"])
    assert metric("missing_entries_total") == before + 6


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder))
    mounted = subprocess.run(command, check=False, stderr=subprocess.PIPE)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(("umount", "-l", str(folder)), check=True)  # noqa: S607 - wherever the system has it


async def test_on_a_full_disk_nothing_is_trimmed(
    valkey_url: str, server: Redis, shard: Shard, small_disk: Path
) -> None:
    """The trimmer reports it, continues as soon as there is room, and leaves no file of the failed attempts."""
    ids = [(await add(server, shard, [ms], os.urandom(500)))[0] for ms in range(1, 301)]
    await group(server, shard, "done", read=300)
    await register(server, shard, "done")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 150_000)
    failures = metric("trim_failures_total", error="archive") or 0
    stop = asyncio.Event()
    async with raw_ranges(connect.client(valkey_url)) as client, asyncio.TaskGroup() as tasks:
        archive = Archive(small_disk, file_bytes=60_000, rest_seconds=0)
        retention = RetentionPolicy(OLD.age_ms, OLD.most_bytes, together=True)
        trimmer = Trimmer(client, shard, retention, archive, poll_seconds=0.05)
        with capture_logs() as logs:
            tasks.create_task(trimmer.run(stop))
            await until(lambda: has_failed(failures + 2))
            remaining = await read_ids(server, shard)
            ballast.unlink()
            await until(lambda: is_left(server, shard, 0))
            stop.set()
    assert remaining
    assert remaining == ids[-len(remaining) :]
    assert [line["what"] for line in logs if line["event"] == "retention.failed"] == ["No space left on device"]
    assert [entry.id.redis.encode() for entry in read(small_disk, shard.stream)] == ids
    assert all(path.suffix != ".part" for path in contents(small_disk))


def contents(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def has_failed(times: float) -> bool:
    return (metric("trim_failures_total", error="archive") or 0) >= times


async def test_the_size_is_that_of_all_shards_together(valkey_url: str, server: Redis, shard: Shard) -> None:
    """A shard with more than an equal part is trimmed only when all shards together are too large."""
    settings, shards = StreamSettings(stream=shard.name), [Shard(shard.name, number) for number in range(2)]
    await set_shards(server, settings, len(shards))
    watch, large = ShardWatch(server, settings), RetentionPolicy(LARGE.age_ms, 160_000, together=False)
    await watch.refresh()
    for each in shards:
        await group(server, each, "g")
        await register(server, each, "g")

    async def fill(each: Shard) -> list[int]:
        """Append 200 entries that the group has handled, trim all shards, and return their lengths."""
        await add(server, each, ["*"] * 200)
        await server.xgroup_setid(each.stream, "g", "$")
        async with raw_ranges(connect.client(valkey_url)) as client:
            for part in shards:
                await Trimmer(client, part, large, None, watch=watch).run_once(asyncio.Event())
                await client.pexpire(part.trimmer, 0)
        return [await server.xlen(part.stream) for part in shards]

    assert await fill(shards[0]) == [200, 0]
    lengths = await fill(shards[1])
    assert 0 < min(lengths) <= max(lengths) <= 200
    assert sum(lengths) < 400
    sizes: list[Any] = [await server.memory_usage(part.stream, samples=0) for part in shards]
    assert sum(sizes) < 180_000  # of about 210,000; whole nodes of the stream are trimmed
