"""While the stream itself fills Redis, no group stops, and the memory of Redis stays bounded."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from stream.keys import Shard
from stream.redis.client import client
from tests.support.processes import Valkey, ackstream
from tests.support.samples.events import body, entry
from tests.support.waiting import PATIENCE_SECONDS, until
from worker.dispatch.backlog import FULL_SHARE, limit_of

MAXMEMORY = 32 * 1024 * 1024
FULL_SECONDS = 3.0
"""How long the memory is watched after a group has reached its limit."""
HANDLERS = """from worker import Discard, StatusEvent
async def some(event: StatusEvent) -> None:
    number = int(event.message_uuid)
    if number % 20 == 3:
        raise Discard("not ours")
    if number % 20 == 7 and event.attempt == 1:
        raise ValueError
async def most(event: StatusEvent) -> None:
    if int(event.message_uuid) % 10:
        raise ValueError
"""


@pytest.fixture(params=[300])
async def full(request: pytest.FixtureRequest, tmp_path: Path, shard: Shard) -> AsyncIterator[tuple[str, Redis]]:
    """Yield a server that the stream has filled, with a group whose worker died twice."""
    async with Valkey(tmp_path / "valkey").run() as valkey:
        server = client(valkey.url)
        await server.config_set("maxmemory", MAXMEMORY)
        (tmp_path / "handlers.py").write_text(HANDLERS)
        for group in ("some", "log"):
            await server.xgroup_create(shard.stream, group, "0", mkstream=True)
            await server.sadd(shard.groups, group)
        number = 0
        try:
            while True:
                async with server.pipeline(transaction=False) as pipe:
                    for number in range(number, number + 500):  # noqa: B020 - one iterator for both loops
                        fields: Any = entry(body(message_uuid=str(number), text="x" * request.param)).to_fields()
                        pipe.xadd(shard.stream, fields)
                    await pipe.execute()
        except OutOfMemoryError:
            pass
        reply: Any = await server.xreadgroup("some", "dead", {shard.stream: ">"}, count=200)
        suspects: Any = {b"live:" + entry_id: 2 for entry_id, _ in reply[0][1]}
        await server.config_set("maxmemory", 0)
        await server.hset(shard.poison("some"), mapping=suspects)
        await server.config_set("maxmemory", MAXMEMORY)
        yield valkey.url, server
        await server.aclose()


async def memory_used(server: Redis) -> int:
    """Return the memory that the server uses."""
    return int((await server.info("memory"))["used_memory"])


@pytest.mark.parametrize("full", [1500], indirect=True, ids=["large"])
async def test_every_group_drains_and_appends_resume(full: tuple[str, Redis], shard: Shard, tmp_path: Path) -> None:
    """Delayed, dead-lettered and suspect entries block no group: within a minute the trimmer frees memory."""
    url, server = full
    began = time.monotonic()
    settings = {"redis_url": url, "stream": shard.name, "retention_bytes": str(2**20), "log_format": "json"}
    options = ("--handler", "some=handlers:some#base=0&attempts=2", "--handler", "log")
    with ackstream("worker", *options, folder=tmp_path, **settings) as worker:

        async def is_drained() -> bool:
            worker.lives()
            groups: Any = await server.xinfo_groups(shard.stream)
            return all(group["lag"] == 0 and group["pending"] == 0 for group in groups)

        async def takes_appends() -> bool:
            fields: Any = entry(body(message_uuid="0")).to_fields()
            try:
                await server.xadd(shard.stream, fields)
            except OutOfMemoryError:
                return False
            return await server.xlen(shard.stream) < 4000

        await until(is_drained, seconds=60)
        await until(takes_appends, seconds=60)
    assert time.monotonic() - began < 60
    assert await server.xlen(shard.dead("some")) > 500


async def test_four_groups_of_failing_events_stay_close_to_maxmemory(
    full: tuple[str, Redis], shard: Shard, tmp_path: Path
) -> None:
    """With nine in ten events failing, a group at the limit reads no live entries, reports it, and still retries."""
    url, server = full
    port = 0
    settings = {"redis_url": url, "stream": shard.name, "retention": "off", "admin_port": str(port)}
    handlers = [f"g{number}=handlers:most#base=0.1&cap=1" for number in range(4)]
    options = [word for handler in handlers for word in ("--handler", handler)]
    with ackstream("worker", *options, folder=tmp_path, **settings) as worker:
        highest, is_full, end = 0, False, time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            worker.lives()
            highest = max(highest, await memory_used(server))
            if not is_full and "group.backlog_full" in worker.said:
                is_full, end = True, time.monotonic() + FULL_SECONDS
            await asyncio.sleep(0.1)
        assert is_full
        assert highest <= 1.1 * MAXMEMORY
        before = len(worker.read_log("handler.failed"))
        await until(lambda: grows(worker, before))


async def grows(worker: Any, before: int) -> bool:
    return len(worker.read_log("handler.failed")) > before


def test_the_limit_follows_the_memory() -> None:
    """The limit is the setting or a quarter of maxmemory, and 1/250 of it while the server is full."""
    assert limit_of(None, 10, 0) is None
    assert limit_of(5, 10, 0) == 5
    assert limit_of(None, 50, 100) == 25
    assert limit_of(None, 102_000, 100_000) == 100_000 // FULL_SHARE
    assert limit_of(300, 102_000, 100_000) == 300
