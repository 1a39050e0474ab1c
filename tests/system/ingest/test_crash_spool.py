"""Ingest and Redis are killed again and again: every payload that was answered 200 reaches the stream."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from console.up.valkey import find_free_port
from stream.keys import Shard
from tests.support.faults.redis_outages import ProxiedRedis, run_proxied_redis
from tests.support.fork_server import PYTHON
from tests.support.http.load import open_load
from tests.support.processes import Ingest, ackstream, run_forked
from tests.support.waiting import until
from tests.support.workers.crash_rounds import ROUNDS, SEED

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parents[3]
FORKED_OUTAGE = ROOT / "tests" / "support" / "faults" / "forked_outage.py"
ROUND_KILLS = 5
RUN_SECONDS = 120.0


@pytest.fixture
def rng() -> random.Random:
    print(f"ACKSTREAM_CRASH_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    return random.Random(SEED)  # noqa: S311 - no secret


@pytest.fixture
async def away(tmp_path: Path, shard: Shard) -> AsyncIterator[ProxiedRedis]:
    async with run_proxied_redis(tmp_path / "valkey", shard) as away:
        yield away


@pytest.fixture
async def ingest(away: ProxiedRedis, tmp_path: Path) -> AsyncIterator[Ingest]:
    async with Ingest(tmp_path, **away.settings).run() as ingest:
        yield ingest


def files(folder: Path) -> list[str]:
    """Return the files of the spools there, without locks and logs."""
    return [path.name for path in folder.glob("ackstream-data/spool/*/*.*") if not path.name.endswith("-wal")]


async def is_drained(folder: Path, processes: int = 1) -> None:
    """Return when each process has only the one empty file that it keeps ready."""

    async def so() -> bool:
        return len(files(folder)) <= processes

    await until(so, seconds=60)


async def test_ingest_killed_while_redis_is_away_loses_nothing(
    away: ProxiedRedis, ingest: Ingest, tmp_path: Path, rng: random.Random
) -> None:
    """At any moment, often in the middle of a put; and again while it drains what all of them have left."""
    away.kill()
    stored = list[str]()
    for _ in range(ROUNDS):
        async with open_load(ingest.url) as load:
            for _ in range(ROUND_KILLS):
                await load.keeps(rng.randrange(1, 300))
                ingest.kill()
                await ingest.start()
            await load.keeps(1)
        stored += load.accepted_ids
    assert len(files(tmp_path)) > ROUNDS, "nothing was left behind by the dead: the test proves nothing"
    await away.start()
    for _ in range(ROUNDS):
        ingest.kill()
        await ingest.start()
        await asyncio.sleep(rng.uniform(0, 0.3))
    await away.has(stored, seconds=60)
    await is_drained(tmp_path)


async def test_everything_killed_in_turn_loses_nothing(
    away: ProxiedRedis, ingest: Ingest, tmp_path: Path, rng: random.Random
) -> None:
    """Redis and ingest, one or both of them, while the spool is filled and drained."""
    stored = list[str]()
    for _ in range(ROUNDS):
        async with open_load(ingest.url) as load:
            for _ in range(3):
                await load.keeps(rng.randrange(1, 300))
                away.kill()
                await load.keeps(rng.randrange(1, 300))
                if rng.random() < 0.5:
                    ingest.kill()
                    await asyncio.gather(ingest.start(), away.start())
                else:
                    await away.start()
        stored += load.accepted_ids
    await away.has(stored, seconds=60)
    await is_drained(tmp_path)


async def test_what_a_dead_process_has_left_another_drains(away: ProxiedRedis, ingest: Ingest, tmp_path: Path) -> None:
    """Two on one data folder; one dies with its spool full and does not come back: the living one drains both."""
    async with Ingest(tmp_path, **away.settings).run() as second:
        away.kill()
        async with open_load(ingest.url) as load, open_load(second.url) as other_load:
            await load.keeps(300)
            await other_load.keeps(300)
        second.kill()
        await away.start()
        await away.has(load.accepted_ids + other_load.accepted_ids, seconds=60)
        await is_drained(tmp_path)
        assert {path.name for path in (tmp_path / "ackstream-data" / "spool").iterdir()} == {"0", "1"}


async def test_a_frozen_redis_is_not_noticed_by_senders(away: ProxiedRedis, ingest: Ingest, tmp_path: Path) -> None:
    """Stopped again and again under load: nobody is refused, all comes to the stream."""
    async with open_load(ingest.url) as load:
        for _ in range(ROUNDS):
            await load.keeps(100)
            away.freeze()
            await load.keeps(500)
            away.thaw()
            await load.keeps(100)
    assert load.refused == 0
    await away.has(load.accepted_ids)
    await is_drained(tmp_path)


async def test_a_stopped_ingest_goes_on_where_it_was(away: ProxiedRedis, tmp_path: Path) -> None:
    """Ingest is stopped for longer than its budget: the waiting entries are stored when it continues."""
    port, admin_port = find_free_port(), find_free_port()
    ports = {"port": str(port), "admin_port": str(admin_port)}
    with ackstream("ingest", folder=tmp_path, signatures="off", **ports, **away.settings) as process:
        await process.is_ready(admin_port)
        async with open_load(f"http://127.0.0.1:{port}/webhooks/message-status") as load:
            for _ in range(ROUNDS):
                await load.keeps(100)
                process.send(signal.SIGSTOP)
                await asyncio.sleep(1)
                process.send(signal.SIGCONT)
                await load.keeps(100)
        assert load.refused == 0
        await away.has(load.accepted_ids)
        await is_drained(tmp_path)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the rig chooses its cores, and may not here")
@pytest.mark.parametrize("how", [("--how", "killed", "--kills", "1"), ("--how", "frozen")], ids=" ".join)
def test_the_rig_of_the_long_run_finds_nothing_in_a_short_one(tmp_path: Path, how: tuple[str, ...]) -> None:
    """The outage scenario of the bench answers each payload 200 and stores it once."""
    command = (*PYTHON, str(FORKED_OUTAGE), "--seconds", "2", "--rate", "100", *how)
    result = run_forked(command, tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)}, RUN_SECONDS)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "lost: 0" in result.stdout
