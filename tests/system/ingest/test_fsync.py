"""The disk under the spool: the time of fsync, and a slow or failing disk. With real processes."""

import asyncio
import errno
import signal
from collections.abc import AsyncIterator
from itertools import groupby
from pathlib import Path

import pytest

from stream.keys import Shard
from tests.support.faults.redis_outages import ProxiedRedis, Sender, open_sender, run_proxied_redis
from tests.support.preload.shim import Shim, build_shim
from tests.support.processes import Ingest, answer
from tests.support.waiting import until


@pytest.fixture
async def away(tmp_path: Path, shard: Shard) -> AsyncIterator[ProxiedRedis]:
    async with run_proxied_redis(tmp_path / "valkey", shard) as away:
        yield away


@pytest.fixture
def shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shim:
    """For the files of the spool; the processes that the test starts have it."""
    if (library := build_shim(tmp_path)) is None:
        pytest.skip("needs Linux and a C compiler")
    shim = Shim(library, tmp_path / "orders", path="/spool/", log=tmp_path / "calls")
    for name, value in shim.environment.items():
        monkeypatch.setenv(name, value)
    return shim


@pytest.fixture
async def ingest(away: ProxiedRedis, shim: Shim, tmp_path: Path) -> AsyncIterator[Ingest]:  # noqa: ARG001 - it is preloaded
    """With Redis gone, so that all depends on the spool."""
    async with Ingest(tmp_path, **away.settings).run() as ingest:
        away.kill()
        yield ingest


@pytest.fixture
async def sender(ingest: Ingest) -> AsyncIterator[Sender]:
    async with open_sender(ingest.url) as sender:
        yield sender


async def test_the_disk_is_written_between_a_request_and_its_200(shim: Shim, sender: Sender) -> None:
    """The order of the process's calls: it reads the request, fsyncs the spool's log, writes 200."""
    assert [await sender.post() for _ in range(5)] == [200] * 5
    events = ["fsync" if line.endswith(".db-wal") else line for line in shim.log if "/" not in line or "-wal" in line]
    assert [event for event, _ in groupby(events[events.index("request") :])] == ["request", "fsync", "200"] * 5


async def test_after_a_failed_fsync_nothing_more_is_acknowledged_from_that_file(
    away: ProxiedRedis, shim: Shim, sender: Sender
) -> None:
    """503 while the disk fails; then a new file takes what comes, and all that was answered 200 is drained."""
    assert await sender.posts(10) == [200] * 10
    shim.set(fsync_error=errno.EIO)
    assert [await sender.post() for _ in range(3)] == [503] * 3
    shim.set(fsync_error=0)

    async def is_taken() -> bool:
        return await sender.post() == 200

    await until(is_taken)
    assert await sender.posts(5) == [200] * 5
    failed = [line.removeprefix("failed ") for line in shim.log if line.startswith("failed ")]
    assert failed[0].endswith("/000001.db-wal")
    for file in failed:
        since = shim.log[shim.log.index(f"failed {file}") :]
        assert f"fsync {file}" not in since, "it was used again"
    assert len(sender.accepted_ids) == 16
    await away.start()
    await away.has(sender.accepted_ids)


async def test_a_slow_disk_is_waited_for(shim: Shim, sender: Sender) -> None:
    """200 comes when the disk is done, not before; those who wait share the next turn."""
    shim.set(fsync_delay_ms=300)
    began = asyncio.get_running_loop().time()
    assert await sender.posts(50) == [200] * 50
    took = asyncio.get_running_loop().time() - began
    assert took >= 0.3
    assert took < 50 * 0.3


async def test_a_disk_that_does_not_answer_is_not_waited_for_long(
    away: ProxiedRedis, shim: Shim, ingest: Ingest, sender: Sender
) -> None:
    """503 within seconds, at once for later requests, and not ready; with Redis back ingest works without the spool."""
    assert await sender.post() == 200
    shim.set(fsync_delay_ms=10_000)
    began = asyncio.get_running_loop().time()
    assert await sender.post() == 503
    assert await sender.posts(20) == [503] * 20
    assert asyncio.get_running_loop().time() - began < 15
    assert await answer(f"http://127.0.0.1:{ingest.admin_port}/ready") == 503
    await away.start()

    async def is_taken() -> bool:
        return await sender.post() == 200

    await until(is_taken)
    assert len(sender.accepted_ids) == 2
    assert await answer(f"http://127.0.0.1:{ingest.admin_port}/ready") == 200
    await away.has(sender.accepted_ids, seconds=60)


async def test_a_disk_that_does_not_answer_keeps_no_process_alive(shim: Shim, ingest: Ingest, sender: Sender) -> None:
    """A stop while a put hangs takes seconds and does not wait for the disk."""
    assert await sender.post() == 200
    shim.set(fsync_delay_ms=40_000)
    assert await sender.post() == 503
    ingest.process.send(signal.SIGTERM)
    assert await ingest.process.wait_for_end(15) == 0
