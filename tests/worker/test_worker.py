import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from stream.keys import Shard
from tests.support.in_process import run_worker
from tests.support.processes import ackstream
from tests.support.samples.events import body
from tests.support.streams.settled import append_payloads, is_settled
from tests.support.waiting import until
from tests.support.workers.store_rows import count_rows


async def test_every_handler_is_a_group_with_its_own_progress_and_dead_letters(
    valkey_url: str,
    server: Redis,
    shard: Shard,
    engine: AsyncEngine,
    database_url: str,
    tmp_path: Path,
) -> None:
    """`store` and `log` each get every entry, and an invalid payload becomes a dead letter of each."""
    await append_payloads(server, shard, *(body(message_uuid=f"m-{n}") for n in range(5)), b"bad")
    settings = {"redis_url": valkey_url, "stream": shard.name, "database_url": database_url}
    with ackstream("worker", folder=tmp_path, **settings) as worker:
        await until(lambda: is_settled(server, shard, "store", "log"))
        worker.send(signal.SIGTERM)
        assert await worker.wait_for_end(20) == 0
    assert await count_rows(engine, "messages") == 5
    assert [await server.xlen(shard.dead(group)) for group in ("store", "log")] == [1, 1]
    assert [line["message_uuid"] for line in worker.read_log("message.status")] == [f"m-{n}" for n in range(5)]


@pytest.mark.parametrize(("reveal", "to"), [(False, "********0123"), (True, "447700900123")])
async def test_the_log_masks_numbers_unless_asked(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path, reveal: bool, to: str
) -> None:
    """One line with id, status, time, from, to and channel; of a number the last four digits."""
    payload = body(to="447700900123", **{"from": "AcmeInc"}, timestamp="2020-01-01T14:00:00Z")
    await append_payloads(server, shard, payload)
    settings = {"redis_url": valkey_url, "stream": shard.name, "log_reveal": str(reveal), "log_format": "text"}
    with ackstream("worker", "--handler", "log", folder=tmp_path, **settings) as worker:
        await until(lambda: is_settled(server, shard, "log"))
        worker.send(signal.SIGTERM)
        assert await worker.wait_for_end(20) == 0
    (line,) = [line for line in worker.said.splitlines() if "message.status" in line]
    assert dict(word.split("=", 1) for word in line.split() if "=" in word) == {
        "message_uuid": "m-1",
        "status": "delivered",
        "time": "2020-01-01T14:00:00+00:00",
        "from": "AcmeInc",
        "to": to,
        "channel": "sms",
    }


async def test_every_status_is_logged_in_order_before_the_end(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path
) -> None:
    """Lines go through a thread: one that is stopped as soon as all is settled has written every one."""
    await append_payloads(server, shard, *(body(message_uuid=f"m-{n}") for n in range(1000)))
    settings = {"redis_url": valkey_url, "stream": shard.name}
    with ackstream("worker", "--handler", "log", folder=tmp_path, **settings) as worker:
        await until(lambda: is_settled(server, shard, "log"))
        worker.send(signal.SIGTERM)
        assert await worker.wait_for_end(20) == 0
    assert [line["message_uuid"] for line in worker.read_log("message.status")] == [f"m-{n}" for n in range(1000)]


async def test_a_worker_waits_for_a_database_that_is_away(
    valkey_url: str, server: Redis, shard: Shard, engine: AsyncEngine, database_url: str
) -> None:
    """While the tables cannot be written nothing is acked or buried; then everything is stored."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE messages RENAME TO elsewhere")
    await append_payloads(server, shard, *(body(message_uuid=f"m-{n}") for n in range(3)))
    async with run_worker(redis_url=valkey_url, stream=shard.name, database_url=database_url, handlers="store"):
        await until(lambda: read(server, shard, 3))
        async with engine.begin() as connection:
            await connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO messages")
        await until(lambda: is_settled(server, shard, "store"))
    assert await count_rows(engine, "messages") == 3
    assert await server.xlen(shard.dead("store")) == 0


async def test_two_workers_share_the_work_and_a_stop_hands_over(
    valkey_url: str, server: Redis, shard: Shard, engine: AsyncEngine, database_url: str
) -> None:
    """Two workers store each entry once, and after an orderly stop no entry waits until a worker counts as dead."""
    common = {"redis_url": valkey_url, "stream": shard.name, "database_url": database_url, "handlers": "store"}
    await append_payloads(server, shard, *(body(message_uuid=f"m-{n}") for n in range(300)))
    async with run_worker(**common, batch_entries=10):
        async with run_worker(**common, batch_entries=10):
            await asyncio.sleep(0)
        await until(lambda: is_settled(server, shard, "store"))
    assert await count_rows(engine, "status_events") == 300
    assert await server.hgetall(shard.alive("store")) == {}


async def read(server: Redis, shard: Shard, entries: int) -> bool:
    groups: Any = await server.xinfo_groups(shard.stream)
    return bool(groups) and groups[0]["pending"] == entries
