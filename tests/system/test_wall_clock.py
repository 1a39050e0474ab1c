import itertools
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.preload.shim import Shim, build_shim, find_compiler
from tests.support.processes import Process, becomes
from tests.support.waiting import until
from tests.support.workers.crash_rounds import check_stored_once, make_payloads
from tests.support.workers.worker_cluster import WorkerCluster

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler and LD_PRELOAD"),
]

HOURS = 2
ENTRIES = 4_000


@pytest.fixture(autouse=True)
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shim:
    """The wall clock of all that this test starts."""
    library = build_shim(tmp_path)
    assert library is not None
    clock = Shim(library, tmp_path / "orders")
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    return clock


def test_the_shim_moves_the_wall_clock_only(clock: Shim) -> None:
    """Or what follows would prove nothing."""
    ask = "import time; print(time.time() - {wall}, time.monotonic() - {monotonic})"
    import time  # noqa: PLC0415 - of this process, whose clock is right

    clock.set(clock_seconds=7200)
    asked = ask.format(wall=time.time(), monotonic=time.monotonic())
    result = subprocess.run((sys.executable, "-c", asked), capture_output=True, text=True, check=True, timeout=240)
    wall, monotonic = map(float, result.stdout.split())
    assert (7199 < wall < 7230, monotonic < 30) == (True, True)


async def test_a_jump_of_the_wall_clock_takes_nothing_from_anybody(work: WorkerCluster, clock: Shim) -> None:
    """Forward by two hours, back by four, and right again, for workers and server, in the middle of their work.

    No worker is taken for dead, and all is stored once.
    """
    workers = await work.start(2)
    await work.append(make_payloads(ENTRIES))
    for part, hours in enumerate((HOURS, -HOURS, 0), start=1):
        await work.is_down_to(ENTRIES * (4 - part) // 4)
        clock.set(clock_seconds=hours * 3600)
    await check_stored_once(work)
    assert work.find_claimed() == set()
    assert [line["event"] for worker in workers for line in trouble(worker)] == []


async def test_an_idle_worker_goes_on_after_a_jump(work: WorkerCluster, clock: Shim) -> None:
    """A server whose clock goes back forgets the end of a blocking read: the reply's limit ends it."""
    (worker,) = await work.start(1)
    put_back = itertools.count(1)

    async def is_caught() -> bool:
        """Put the clock back while the worker's read blocks, if it still does then."""
        await until(lambda: has_blocked_clients(work))
        clock.set(clock_seconds=-HOURS * 3600 * next(put_back))
        with suppress(AssertionError):
            await becomes(lambda: worker.read_log("consumer.redis_fault"), seconds=10)
        return bool(worker.read_log("consumer.redis_fault"))

    await until(is_caught, seconds=60)
    await worker.has_logged("consumer.ready", times=2)
    line = worker.read_log("consumer.redis_fault")[0]
    assert (line["fault"], seen(line) < datetime.now(UTC) - timedelta(hours=1)) == ("silent", True)
    await work.append(make_payloads(1000))
    await check_stored_once(work)


async def has_blocked_clients(work: WorkerCluster) -> bool:
    return int((await work.server.info("clients"))["blocked_clients"]) > 0


def trouble(worker: Process) -> list[dict[str, str]]:
    return [
        line
        for event in ("heartbeat.late", "consumer.dropped", "consumer.redis_fault", "heartbeat.orphans")
        for line in worker.read_log(event)
    ]


def seen(line: dict[str, str]) -> datetime:
    return datetime.fromisoformat(line["timestamp"])
