"""The reader of the log is gone, full or asleep: ingest and worker continue as with a healthy standard output."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from console.up.valkey import find_free_port
from stream.keys import Shard
from stream.settings import child_environment
from tests.support.faults.redis_outages import ProxiedRedis, open_sender, run_proxied_redis
from tests.support.http.raw_http import METRIC
from tests.support.in_process import answers
from tests.support.processes import ACKSTREAM, start_process
from tests.support.waiting import until

OUTPUTS = ("closed", "full", "unread")


@pytest.fixture
async def away(tmp_path: Path, shard: Shard) -> AsyncIterator[ProxiedRedis]:
    async with run_proxied_redis(tmp_path / "valkey", shard) as away:
        yield away


@contextmanager
def open_output(kind: str) -> Iterator[int]:
    """A standard output of this kind: a pipe without a reader, a full disk, or a full pipe that nobody reads."""
    reader, writer = os.pipe()
    if kind == "full":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    elif kind == "closed":
        os.close(reader)
    else:
        os.set_blocking(writer, False)
        while True:
            try:
                os.write(writer, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(writer, True)
    try:
        yield writer
    finally:
        os.close(writer)
        if kind != "closed":
            os.close(reader)


@contextmanager
def run_with_output(kind: str, folder: Path, command: str, **settings: str) -> Iterator[None]:
    """Run a command with such a standard output for the length of the block; it ends neither by itself nor in words."""
    with open_output(kind) as output:
        process = start_process((*ACKSTREAM, command), folder, command, child_environment(**settings), stdout=output)
    try:
        yield
        process.lives()
    finally:
        process.end()
    assert process.said == ""


async def metrics(port: int) -> dict[tuple[str, str], float]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        return {(name, label): float(value) for name, label, value in METRIC.findall(await answer.text())}


@pytest.mark.parametrize("kind", OUTPUTS)
async def test_ingest_answers_spools_and_checks_whatever_takes_its_log(
    away: ProxiedRedis, tmp_path: Path, kind: str
) -> None:
    """While Redis is killed, while its settings are weakened under `fsync`, and while its memory is nearly full."""
    port, admin_port = find_free_port(), find_free_port()
    settings = {"port": str(port), "admin_port": str(admin_port), "signatures": "off", "ack": "fsync"}
    url, ready = f"http://127.0.0.1:{port}/webhooks/message-status", f"http://127.0.0.1:{admin_port}/ready"
    with run_with_output(kind, tmp_path, "ingest", **settings, **away.settings):
        await until(lambda: answers(ready, 200))
        async with open_sender(url) as sender:
            assert await sender.posts(3) == [200] * 3
            away.kill()
            for _ in range(5):
                assert await sender.posts(5) == [200] * 5
            assert await answers(ready, 200)
            await away.start()
            await away.has(sender.accepted_ids)
            await away.run_command("CONFIG SET", "appendfsync", "everysec")
            away.proxy.cut()

            async def is_spooled_for_durability() -> bool:
                assert await sender.post() == 200
                return (await metrics(admin_port)).get(("ackstream_spooled_entries_total", "durability"), 0) > 0

            await until(is_spooled_for_durability)
            await away.run_command("CONFIG SET", "appendfsync", "always")
            await away.has(sender.accepted_ids)
            used = (await away.server.info("memory"))["used_memory"]
            await away.run_command("CONFIG SET", "maxmemory", used)

            async def is_spared() -> bool:
                return (await metrics(admin_port)).get(("ackstream_redis_down", "memory"), 0) == 1

            await until(is_spared)
            await away.run_command("CONFIG SET", "maxmemory", 2**30)
            assert await sender.posts(5) == [200] * 5
            await away.has(sender.accepted_ids)
        if kind != "unread":
            assert (await metrics(admin_port))["ackstream_log_lines_lost_total", ""] > 0


@pytest.mark.parametrize("kind", OUTPUTS)
async def test_a_worker_goes_on_whatever_takes_its_log(away: ProxiedRedis, tmp_path: Path, kind: str) -> None:
    """While Redis is killed and comes back; the `log` handler's lines are lost, and no entry is."""
    admin_port = find_free_port()
    ready = f"http://127.0.0.1:{admin_port}/ready"
    with run_with_output(kind, tmp_path, "worker", admin_port=str(admin_port), handlers="log", **away.settings):
        await until(lambda: answers(ready, 200))
        for _ in range(2):
            fields: Any = {"v": "1", "payload": "x"}
            await away.server.xadd(away.shard.stream, fields)
            await until(lambda: is_settled(away.server, away.shard))
            away.kill()
            await until(lambda: answers(ready, 503))
            await away.start()
            await until(lambda: answers(ready, 200))


async def is_settled(server: Redis, shard: Shard) -> bool:
    groups: Any = await server.xinfo_groups(shard.stream)
    return bool(groups) and all(group["pending"] == 0 and group["lag"] == 0 for group in groups)
