"""`ackstream ingest` and `worker` with `--processes`: a supervisor and its children, under load and signals."""

import os
import shlex
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from console.up.valkey import find_free_port
from stream.entry import Entry
from stream.keys import Shard
from stream.settings import child_environment
from tests.support.faults.redis_outages import ProxiedRedis, run_proxied_redis
from tests.support.http.load import open_load
from tests.support.processes import ACKSTREAM, Ingest, Process, ackstream, becomes, runs, start_process
from tests.support.samples.events import body
from tests.support.waiting import until

END_SECONDS = 60.0
RESTART_SECONDS = 150.0
PAUSE_SECONDS = 0.05
"""Between two messages of a sender: a rolling restart takes some seconds, and the processor is not ours alone."""
HANGING = """
import asyncio, pathlib

async def handle(event):
    pathlib.Path("called").touch()
    await asyncio.sleep(600)
"""


@pytest.fixture
async def away(tmp_path: Path, shard: Shard) -> AsyncIterator[ProxiedRedis]:
    """A Redis that the test may kill."""
    async with run_proxied_redis(tmp_path / "valkey", shard) as away:
        yield away


async def logs(process: Process, event: str) -> None:
    """Return when the process has logged the event, which may take the time of several starts one after the other."""
    await becomes(lambda: process.lives() and process.read_log(event), seconds=RESTART_SECONDS)


async def read(admin_port: int, metric: str) -> float:
    """Return the sum of all samples of a metric."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{admin_port}/metrics") as response:
        families = text_string_to_metric_families(await response.text())
    return sum(sample.value for family in families for sample in family.samples if sample.name == metric)


async def test_two_ingest_processes_work_as_one(away: ProxiedRedis, tmp_path: Path) -> None:
    """Replaced one by one, and killed while Redis is away: each connection is accepted, and each 200 is stored.

    The counts of all processes are added up, and those of replaced ones stay. A process with an invalid setting
    replaces none. At last the supervisor is killed, and its processes stop cleanly.
    """
    async with Ingest(tmp_path, processes="2", log_format="json", **away.settings).run() as ingest:
        process, admin_port = ingest.process, ingest.admin_port
        first = process.family()

        async with open_load(ingest.url, PAUSE_SECONDS, reconnects=True) as load:
            await load.keeps(100)
            process.send(signal.SIGHUP)
            await logs(process, "supervisor.restarted")
            await load.keeps(100)
        answered = load.accepted_ids
        assert load.unconnected == 0
        assert {line["process"] for line in process.read_log("ingest.started")} == {1, 2}
        assert not any(map(runs, first))

        async def has_counted_all() -> bool:
            return await read(admin_port, "ackstream_webhooks_total") >= len(answered)

        async def has_counted_one_death() -> bool:
            return await read(admin_port, "ackstream_child_deaths_total") == 1

        await until(has_counted_all)
        (tmp_path / ".env").write_text("ACKSTREAM_MAX_BODY=much\n")
        before = process.family()
        process.send(signal.SIGHUP)
        await logs(process, "supervisor.restart_failed")
        await becomes(lambda: process.family() == before)
        (tmp_path / ".env").unlink()

        away.kill()
        async with open_load(ingest.url, PAUSE_SECONDS) as load:
            await load.keeps(100)
            os.kill(process.family()[0].pid, signal.SIGKILL)
            await load.keeps(100)
        answered += load.accepted_ids
        assert await read(admin_port, "ackstream_webhooks_total") >= len(answered) - len(load.accepted_ids)
        await until(has_counted_one_death)
        await away.start()
        await process.is_ready(admin_port)
        await away.has(answered, seconds=60)

        last = process.family()
        process.kill()
        await becomes(lambda: not any(map(runs, last)))
        assert len(process.read_log("ingest.stopped")) == 4, "the last two were not stopped cleanly"


async def test_a_closed_standard_input_changes_nothing(tmp_path: Path) -> None:
    """No socket of the processes gets its number."""
    ports = "--port", str(find_free_port()), "--admin-port", str(find_free_port())
    command = shlex.join((*ACKSTREAM, "ingest", "--processes", "2", *ports))
    environment = child_environment(signatures="off", redis_url="redis://127.0.0.1:1", log_format="json")
    process = start_process(("/bin/sh", "-c", f"exec {command} <&-"), tmp_path, "ingest", environment)
    try:
        await process.has_logged("ingest.started", times=2)
    finally:
        process.end()


async def test_no_worker_outlives_a_hurried_supervisor(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path
) -> None:
    """After the second signal all processes end, although a call hangs and the grace is long."""
    (tmp_path / "hanging.py").write_text(HANGING)
    settings = {"redis_url": valkey_url, "stream": shard.name, "grace_seconds": "600", "handlers": "hanging:handle"}
    admin_port = find_free_port()
    arguments = "worker", "--processes", "2", "--admin-port", str(admin_port)
    with ackstream(*arguments, folder=tmp_path, **settings) as process:
        await process.is_ready(admin_port)
        workers = process.family()
        assert len(workers) == 2
        entry: Any = Entry(body(), "application/json", 1, "r").to_fields()
        await server.xadd(shard.stream, entry)
        await becomes((tmp_path / "called").exists)

        process.send(signal.SIGTERM)
        await process.has_logged("process.stopping", times=3)
        process.send(signal.SIGTERM)

        assert await process.wait_for_end(END_SECONDS) == 130
        await becomes(lambda: not any(map(runs, workers)))
