"""A replay continues after the worker that copies was killed, without a missing or repeated copy."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from stream.keys import Shard
from tests.support.processes import Process, ackstream, becomes, quick_worker
from tests.support.samples.events import body, entry
from tests.support.waiting import until
from tests.support.workers.crash_rounds import ROUNDS, SEED
from tests.support.workers.recording import GROUP, RecordingWorkers, count_copies, ids, replay, run_recording_workers
from worker.store.database import open_engine
from worker.store.migrate import migrate
from worker.store.tables import messages, status_events

pytestmark = pytest.mark.crash

ENTRIES = 3000
RATE = 1500
TAKEN_OVER_SECONDS = 40
PACE = 0.2  # the dead are known after 3 s


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[RecordingWorkers]:
    """Yield workers of a handler that records its calls."""
    with run_recording_workers(valkey_url, server, shard, tmp_path, PACE) as site:
        yield site


async def test_a_copying_worker_killed_at_any_time_misses_and_repeats_no_entry(site: RecordingWorkers) -> None:
    """Each entry reaches the handler once more, except entries in flight at a kill, which may come a third time.

    Another group gets no copies.
    """
    print(f"ACKSTREAM_CRASH_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    rng = random.Random(SEED)  # noqa: S311 - no secret
    await site.start()
    log_worker = site.running.enter_context(
        ackstream("worker", "--handler", "log", folder=site.folder, **site.settings)
    )
    await log_worker.has_logged("consumer.ready")
    await site.append(*ids("ok", range(ENTRIES)))
    await site.is_done()
    assert site.times("call") == Counter(ids("ok", range(ENTRIES)))
    await log_worker.has_logged("message.status", times=ENTRIES)  # it may be behind the other group
    replay_id = await replay(site.server, site.shard, GROUP, RATE)
    in_flight: set[str] = set()
    for part in range(1, ROUNDS + 2):
        await site.start()
        number = rng.randrange(ENTRIES * part // (ROUNDS + 3), ENTRIES * (part + 1) // (ROUNDS + 3))
        await until(lambda number=number: _is_at(site, replay_id, number))  # type: ignore[misc]
        in_flight |= await site.kill(await _find_copying_worker(site, replay_id))
    await site.start()
    await until(lambda: _is_at(site, replay_id, ENTRIES))
    await site.is_done(seconds=TAKEN_OVER_SECONDS)
    assert await count_copies(site.server, site.shard, GROUP, replay_id) == ENTRIES
    calls = Counter(words[0] for words in site.read_notes("call") if words[2] == "True")
    assert calls.keys() == set(ids("ok", range(ENTRIES)))
    origins = {words[0]: words[3] for words in site.read_notes("call") if words[2] == "True"}
    assert {origins[call] for call, times in calls.items() if times > 1} <= in_flight
    assert len(log_worker.read_log("message.status")) == ENTRIES


async def _is_at(site: RecordingWorkers, replay_id: str, number: int) -> bool:
    return await count_copies(site.server, site.shard, GROUP, replay_id) >= number


async def _find_copying_worker(site: RecordingWorkers, replay_id: str) -> Process:
    """Return the living worker that started to copy last, as soon as there is one."""

    def find_workers() -> dict[str, Process]:
        return {
            line["timestamp"]: worker
            for worker in site.workers
            for line in worker.read_log("replay.copying")
            if line["replay"] == replay_id
        }

    await becomes(find_workers, seconds=TAKEN_OVER_SECONDS)
    workers = find_workers()
    return workers[max(workers)]


async def test_a_second_replay_leaves_the_tables_as_they_are(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path
) -> None:
    """All rows are equal, also if a worker is killed in each replay."""
    database_url = f"sqlite:///{tmp_path / 'test.db'}"
    engine = open_engine(database_url, create=True)
    await migrate(engine)
    for number in range(ENTRIES):
        payload = body(message_uuid=f"m-{number % 700}", status=["submitted", "delivered", "read"][number % 3])
        fields: Any = entry(payload, 1_764_000_000_000 + number).to_fields()
        await server.xadd(shard.stream, fields)
    settings = {"redis_url": valkey_url, "stream": shard.name, "database_url": database_url}
    rows: list[Any] = []
    for _ in range(3):
        with quick_worker(PACE, "store", tmp_path, settings) as first:
            await first.has_logged("consumer.ready")
            if rows:
                replay_id = await replay(server, shard, "store", RATE)
                await until(lambda: _some(server, shard, replay_id))  # noqa: B023 - awaited here
                first.kill()
                with quick_worker(PACE, "store", tmp_path, settings):
                    await until(lambda: _is_settled(server, shard, replay_id), seconds=TAKEN_OVER_SECONDS)  # noqa: B023
            else:
                await until(lambda: _is_settled(server, shard, None))
        async with engine.connect() as connection:
            tables = [(await connection.execute(select(table).order_by(*table.primary_key))).all() for table in TABLES]
        rows.append(tables)
    await engine.dispose()
    assert [len(table) for table in rows[0]] == [700, 2100]
    assert rows[0] == rows[1] == rows[2]


TABLES = (messages, status_events)


async def _some(server: Redis, shard: Shard, replay_id: str) -> bool:
    return await count_copies(server, shard, "store", replay_id) >= ENTRIES // 3


async def _is_settled(server: Redis, shard: Shard, replay_id: str | None) -> bool:
    if replay_id is not None and await count_copies(server, shard, "store", replay_id) < ENTRIES:
        return False
    groups: Any = await server.xinfo_groups(shard.stream)
    unsettled = [(group["lag"], group["pending"]) for group in groups if group["name"] == b"store"]
    return unsettled == [(0, 0)] and not await server.xlen(shard.replay("store"))


async def test_the_rate_is_kept(site: RecordingWorkers) -> None:
    """The rate is within a wide margin, because the machine is busy; the bench measures it exactly."""
    await site.start()
    await site.append(*ids("ok", range(1500)))
    await site.is_done()
    began = asyncio.get_running_loop().time()
    replay_id = await replay(site.server, site.shard, GROUP, 500)
    await until(lambda: _is_at(site, replay_id, 1500))
    assert asyncio.get_running_loop().time() - began > 2.7
