"""The answers of `/live` and `/ready` while a dependency of the worker is away."""

from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from redis.asyncio import Redis

from console.up import valkey
from stream.keys import Shard
from tests.support.processes import Process, Server, ackstream, answer, becomes
from tests.support.waiting import until
from tests.support.workers.recording import RecordingWorkers, run_recording_workers


class Renamed(Server):
    """Yield a server without FUNCTION, like Redis 6.2."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.port = valkey.find_free_port()
        options = ("--port", str(self.port), "--dir", str(folder), "--rename-command", "FUNCTION", "")
        super().__init__((valkey.find_binary(), *options), folder)

    async def _is_ready(self, process: Process) -> None:
        await becomes(lambda: process.lives() and "Ready to accept connections" in process.said)


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[RecordingWorkers]:
    """Yield workers whose handler records its calls."""
    with run_recording_workers(valkey_url, server, shard, tmp_path) as site:
        yield site


async def test_a_worker_is_live_while_its_database_is_away(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """A worker without its database is live, so that a liveness probe does not kill it."""
    port, away = valkey.find_free_port(), valkey.find_free_port()
    settings = {"redis_url": valkey_url, "stream": shard.name, "admin_port": str(port)}
    database_url = f"postgresql://u:p@127.0.0.1:{away}/d"
    with ackstream("worker", "--handler", "store", folder=tmp_path, database_url=database_url, **settings) as worker:

        async def is_live() -> bool:
            return worker.lives() and await answer(f"http://127.0.0.1:{port}/live") == 200

        await until(is_live)
        assert await answer(f"http://127.0.0.1:{port}/ready") == 503


async def test_ready_names_the_target_that_is_away(site: RecordingWorkers) -> None:
    """`/ready` names the target while the handler raises Unavailable, and is ready afterwards."""
    worker = await site.start()
    await site.append("away-1")
    await worker.has_logged("handler.unavailable")
    url = f"http://127.0.0.1:{worker.read_log('worker.started')[0]['admin_port']}/ready"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert (response.status, await response.text()) == (503, "group recorder waits for its target: Unavailable\n")
    (site.folder / "back").touch()
    await site.is_done()
    assert await answer(url) == 200


async def test_a_server_before_redis_7_is_refused_at_the_start(tmp_path: Path, shard: Shard) -> None:
    """The worker refuses an old server with one sentence that names the needed version."""
    async with Renamed(tmp_path / "old").run() as old:
        settings = {"redis_url": f"redis://127.0.0.1:{old.port}", "stream": shard.name}
        with ackstream("worker", "--handler", "log", folder=tmp_path, **settings) as worker:
            assert await worker.wait_for_end(20) == 1
    assert "has no FUNCTION" in worker.said
    assert "Redis 7.0" in worker.said
    assert "Traceback" not in worker.said
