"""An event whose handler kills the process is dead-lettered, and no other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.processes import Process
from tests.support.waiting import until
from tests.support.workers.recording import RecordingWorkers, ids, run_recording_workers
from worker.group.poison import MOST_DEATHS, SUSPECT_AFTER
from worker.timing import TIMING

pytestmark = pytest.mark.crash

PACE = 0.2
TAKEN_OVER_SECONDS = PACE * (TIMING.dead + 3 * TIMING.beat) + 10
MOST = SUSPECT_AFTER + 3 + MOST_DEATHS
"""Crashes until one of 7 entries is proven poison: each crash under a mark halves the set."""


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[RecordingWorkers]:
    """Yield workers whose handler records its calls."""
    with run_recording_workers(valkey_url, server, shard, tmp_path, PACE) as site:
        yield site


@pytest.mark.parametrize("function", ["handle", "handle_all"])
async def test_only_the_poison_event_is_dead_lettered(site: RecordingWorkers, function: str) -> None:
    """Only the poison event is dead-lettered, with its reason; earlier and later events are handled."""
    await site.append(*ids("slow-0.2", range(3)), "die-1", *ids("slow-0.2", range(3, 6)))
    deaths = 0
    while not await site.letters():
        worker = site.launch("concurrency=8", function=function)
        await until(lambda worker=worker: is_over(site, worker), seconds=TAKEN_OVER_SECONDS)  # type: ignore[misc]
        deaths += worker.child.poll() == 3
        assert deaths <= MOST
        await site.append(f"ok-{deaths}")
    await site.is_done(seconds=TAKEN_OVER_SECONDS)
    error = f"poison: {MOST_DEATHS} workers died while they handled only this entry"
    assert await site.letters() == [("die-1", error, 1)]
    handled = {name for words in site.read_notes("done") for name in words}
    assert handled >= {*ids("slow-0.2", range(6)), *ids("ok", range(1, deaths + 1))}
    assert len(site.read_notes("dies")) == deaths >= SUSPECT_AFTER + MOST_DEATHS


async def is_over(site: RecordingWorkers, worker: Process) -> bool:
    """Return whether the worker has died or has dead-lettered the event."""
    return worker.child.poll() == 3 or bool(await site.letters())
