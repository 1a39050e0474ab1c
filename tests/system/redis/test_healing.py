import asyncio
import resource
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from redis.asyncio import Redis

from console.up import valkey as embedded
from stream.keys import Shard
from stream.redis.errors import AWAY, SILENT, UNWRITABLE
from tests.support.faults.redis_faults import FAULTS, FaultyValkey, fill, freeze
from tests.support.processes import Process, Valkey, becomes, start_process
from tests.support.samples.events import body
from tests.support.servers.listen import run_listener
from tests.support.waiting import until
from tests.support.workers.crash_rounds import (
    PACE,
    TIMING,
    check_stored_once,
    make_payloads,
    portions,
    stop_with_a_batch,
)
from tests.support.workers.store_rows import read_rows
from tests.support.workers.worker_cluster import GROUP, WorkerCluster, run_worker_cluster

pytestmark = pytest.mark.crash

ENTRIES = 1000
HOLD_SECONDS = 1.5
READS_PER_SECOND = 20
COMMANDS_PER_SECOND = 200


@pytest.fixture
def site(work: WorkerCluster, own_valkey: Valkey, tmp_path: Path) -> FaultyValkey:
    return FaultyValkey(work.server, own_valkey.url, tmp_path / "valkey", work.shard)


async def half_done(work: WorkerCluster) -> Process:
    """Have one worker in the middle of its work."""
    await work.append(make_payloads(ENTRIES))
    (worker,) = await work.start(1)
    await work.is_down_to(ENTRIES * 4 // 5)
    return worker


async def says(worker: Process, words: str) -> None:
    """Return when `/ready` is 503 and gives these words."""
    port = worker.read_log("worker.started")[0]["admin_port"]

    async def does() -> bool:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/ready") as response:
            return response.status == 503 and words in await response.text()

    await until(does, seconds=60)


async def is_ready(worker: Process) -> None:
    await worker.is_ready(worker.read_log("worker.started")[0]["admin_port"])


async def rates(server: Redis) -> tuple[float, float]:
    """How often a second, over some seconds, anybody tries to read, and does anything at all."""

    async def count_tries() -> tuple[int, int]:
        commands: Any = await server.info("commandstats")
        counts = {name: int(command["calls"]) + int(command["rejected_calls"]) for name, command in commands.items()}
        return counts.get("cmdstat_xreadgroup", 0), sum(counts.values())

    (reads, commands), began = await count_tries(), time.monotonic()
    await becomes(lambda: time.monotonic() - began > HOLD_SECONDS)
    (more_reads, more_commands), seconds = await count_tries(), time.monotonic() - began
    return (more_reads - reads) / seconds, (more_commands - commands) / seconds


ANSWERING = [name for name in FAULTS if name not in ("frozen", "busy")]


@pytest.mark.parametrize("name", ANSWERING)
async def test_a_worker_waits_through_every_fault_and_goes_on(
    work: WorkerCluster, site: FaultyValkey, name: str
) -> None:
    """A worker names the fault, asks Redis now and then, ends nothing, and stores everything after the repair."""
    worker = await half_done(work)
    fault, run_fault = FAULTS[name]
    async with run_fault(site):
        await says(worker, fault.meaning)
        reads, commands = await rates(site.server)
    print(f"{name}: {reads:.1f} reads, {commands:.1f} commands a second")  # noqa: T201 - for whoever looks
    assert (reads < READS_PER_SECOND, commands < COMMANDS_PER_SECOND) == (True, True)
    await is_ready(worker)
    await check_stored_once(work)
    assert worker.lives()


@pytest.mark.parametrize("name", ["frozen", "busy"])
async def test_a_worker_waits_for_a_server_that_answers_nothing(
    work: WorkerCluster, site: FaultyValkey, name: str
) -> None:
    """For longer than the time of death: no wait is without end, and everything is stored once."""
    work.pace = PACE
    worker = await half_done(work)
    fault, run_fault = FAULTS[name]
    async with run_fault(site):
        await says(worker, fault.meaning)
        began = time.monotonic()
        await becomes(lambda: time.monotonic() - began > TIMING.dead, seconds=TIMING.dead + 5)
        assert len(worker.read_log("consumer.redis_fault")) < 2 * TIMING.dead
    await is_ready(worker)
    await check_stored_once(work)


async def test_a_worker_can_be_stopped_while_it_waits(work: WorkerCluster, site: FaultyValkey) -> None:
    """SIGTERM ends it in good order though nothing answers; another one does the rest."""
    work.pace = PACE
    worker = await half_done(work)
    async with freeze(site):
        await says(worker, SILENT.meaning)
        worker.send(signal.SIGTERM)
        assert await worker.wait_for_end(20) == 0
    await work.start(1)
    await check_stored_once(work)


@asynccontextmanager
async def slow(port: int) -> AsyncIterator[int]:
    """Listen on a port that passes half a megabyte a second of the replies of a server."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
        try:
            with suppress(OSError):
                while piece := await reader.read(65536):
                    await asyncio.sleep(seconds)
                    writer.write(piece)
                    await writer.drain()
        finally:
            writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, inner_writer, 0), copy(inner_reader, writer, 1 / 8))

    async with run_listener(serve) as listened:
        yield listened


async def test_a_batch_that_the_network_cannot_carry_in_time_is_read_in_parts(
    work: WorkerCluster, site: FaultyValkey
) -> None:
    """A reply that is cut off for its size would be cut off for ever: so fewer entries are read at once."""
    await work.append([body(message_uuid=f"m-{n}", more="x" * 100_000) for n in range(80)])
    async with slow(urlsplit(site.url).port or 0) as port:
        worker = work.worker(redis_url=site.url.replace(f":{urlsplit(site.url).port}", f":{port}"))
        await work.is_down_to(0)
        assert "silent" in {line["fault"] for line in worker.read_log("consumer.redis_fault")}
        await check_stored_once(work)
        worker.kill()


async def test_a_full_server_holds_nobody_up(work: WorkerCluster, site: FaultyValkey) -> None:
    """Without memory to append, groups are read, acked and noted, and a dead worker's entries are taken over."""
    work.pace = PACE
    portion = portions(ENTRIES)
    await work.append(next(portion))
    (worker,) = await work.start(1)
    in_hand = await stop_with_a_batch(work, worker, portion)
    async with fill(site):
        worker.kill()
        (successor,) = await work.start(1)
        await work.is_claimed_from(in_hand, seconds=TIMING.dead + 20)
        await check_stored_once(work)
        last = max(int(entry_id.partition("-")[0]) for entry_id, _ in work.appended)
        await until(lambda: has_checkpoint(work, last))
    assert successor.read_log("consumer.redis_fault") == []


async def has_checkpoint(work: WorkerCluster, ms: int) -> bool:
    """Whether the checkpoint has come so far."""
    checkpoint: Any = await work.server.get(work.shard.checkpoint(GROUP))
    return checkpoint is not None and int(checkpoint.partition(b"-")[0]) >= ms


@pytest.mark.parametrize("where", ["99999999999999-0", "destroyed"])
async def test_a_group_that_was_moved_away_is_put_back(work: WorkerCluster, site: FaultyValkey, where: str) -> None:
    """Beyond its stream it would read nothing, without an error; destroyed, with one: nothing is passed by."""
    worker = await half_done(work)
    await until(lambda: has_checkpoint(work, 1))
    if where == "destroyed":
        await site.server.xgroup_destroy(work.shard.stream, GROUP)
    else:
        await site.server.xgroup_setid(work.shard.stream, GROUP, where)
    await worker.has_logged("group.created", times=2)
    await check_stored_once(work)
    lines = worker.read_log("group.created")
    assert (len(lines), lines[1]["start"] not in ("0", "0-0")) == (2, True)


async def test_a_server_that_has_lost_everything_is_begun_anew(
    work: WorkerCluster, site: FaultyValkey, own_valkey: Valkey
) -> None:
    """Started again on an empty disk with a clock that stepped back, it gets new entries, and each is stored once."""
    worker = await half_done(work)
    await until(lambda: has_checkpoint(work, 1))
    own_valkey.kill()
    shutil.rmtree(site.folder / "appendonlydir")
    work.appended.clear()
    await own_valkey.start()
    await work.append([body(message_uuid=f"later-{n}") for n in range(1000)], entry_id="5-*")
    await work.is_down_to(0)
    _, stored_events = await read_rows(work.engine)
    stored = [row for row in stored_events.values() if row["event"].message_uuid.startswith("later-")]
    assert (len(stored), await work.server.xlen(work.shard.dead(GROUP)), worker.lives()) == (1000, 0, True)


class SmallDisk(Valkey):
    """A Valkey whose files cannot grow beyond a limit, as on a full disk."""

    def __init__(self, folder: Path, fsync: str) -> None:
        super().__init__(folder)
        with (folder / "valkey.conf").open("a") as config:
            config.write(f"appendfsync {fsync}\n")
        binary = str(embedded.find_binary())
        ignoring = ("sh", "-c", 'trap \'\' XFSZ; exec "$0" "$1"', binary, str(folder / "valkey.conf"))
        self._begin = lambda: start_process(ignoring, folder, "valkey", None)


@pytest.mark.parametrize("fsync", ["everysec", "always"])
async def test_a_full_disk_is_waited_for(shard: Shard, tmp_path: Path, fsync: str) -> None:
    """With `everysec` Redis refuses every write, with `always` it exits; afterwards everything is stored once."""
    async with (
        SmallDisk(tmp_path / "valkey", fsync).run() as valkey,
        run_worker_cluster(valkey.url, shard, f"sqlite:///{tmp_path / 'own.db'}", tmp_path) as work,
    ):
        worker = await half_done(work)
        pid = int((await work.server.info("server"))["process_id"])
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        await says(worker, UNWRITABLE.meaning if fsync == "everysec" else AWAY.meaning)
        if fsync == "everysec":
            reads, _ = await rates(work.server)
            assert reads < READS_PER_SECOND
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        else:
            valkey.kill()  # it has ended by itself
            await valkey.start()
        await is_ready(worker)
        await check_stored_once(work)
