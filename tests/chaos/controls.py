"""Control runs: a protection is switched off, and the checker must see the loss; otherwise it is blind."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any

from tests.chaos import broken_worker
from tests.chaos.checker_client import run_checker
from tests.chaos.cluster.builder import run_cluster
from tests.chaos.cluster.cluster import Cluster, Setup
from tests.chaos.nemesis.processes import FsyncFault, ProcessEnded, Victim
from tests.support.faults.processes import freeze
from tests.support.preload.shim import find_compiler

RATE, COUNT = 400.0, 1600
LOAD_SECONDS = COUNT / RATE
DRAIN_SECONDS = 60.0
FSYNC_MS = 2000


@dataclass(frozen=True, slots=True)
class Control:
    """How the cluster of a control run differs, and the faults during its load."""

    happens: Callable[[Cluster], Coroutine[Any, Any, None]]
    changes: Mapping[str, Any] = field(default_factory=dict)
    forges: bool = False
    """Whether a 200 that ingest never sent is added to the history."""


@dataclass(frozen=True, slots=True)
class ControlResult:
    """The result of a control run."""

    name: str
    acked: int
    lost: int
    left: Mapping[str, int]

    @property
    def has_seen_loss(self) -> bool:
        return self.lost > 0 and not self.left

    def __str__(self) -> str:
        rest = f", but {self.left} were left, so that this means nothing" if self.left else ""
        return f"{self.name}: {'' if self.has_seen_loss else 'BLIND: '}lost {self.lost} of {self.acked}{rest}"


async def watch(name: str, folder: Path) -> ControlResult:
    """Do a control run on a new cluster."""
    control = CONTROLS[name]
    setup = Setup(folder, database="sqlite", **control.changes)
    async with run_cluster(setup) as cluster, run_checker(cluster, folder) as checker:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(checker.load(0, COUNT, RATE, name))
            tasks.create_task(control.happens(cluster))
        if control.forges:
            await checker.forge(0)
        outcome = await checker.end(0, DRAIN_SECONDS)
    return ControlResult(name, outcome.analysis.acked, outcome.analysis.lost, outcome.left)


async def _redis_dies_unread(cluster: Cluster) -> None:
    """Kill Redis while no worker reads, so that the entries are in Redis only."""
    with freeze(*(worker.process.child.pid for worker in cluster.workers)):
        await asyncio.sleep(LOAD_SECONDS / 2)
        async with ProcessEnded(Victim("redis", 0), SIGKILL).run(cluster):
            pass


async def _slow_disk(cluster: Cluster) -> None:
    """Do the same on a slow disk: Redis delays even its writes during an fsync."""
    async with FsyncFault(Victim("redis", 0), delay_ms=FSYNC_MS).run(cluster):
        await _redis_dies_unread(cluster)


async def _workers_die(cluster: Cluster) -> None:
    await asyncio.sleep(LOAD_SECONDS / 2)
    for number in range(len(cluster.workers)):
        async with ProcessEnded(Victim("worker", number), SIGKILL).run(cluster):
            pass


async def _do_nothing(_site: Cluster) -> None:
    pass


CONTROLS: Mapping[str, Control] = {
    "slow-disk": Control(_slow_disk, {"appendfsync": "everysec"}),
    "no-aof": Control(_redis_dies_unread, {"appendfsync": "off", "has_shim": False}),
    "early-ack": Control(_workers_die, {"worker": (sys.executable, "-m", broken_worker.__name__, "worker")}),
    "never-sent": Control(_do_nothing, forges=True),
}


def possible() -> list[str]:
    """Return the controls that can run here: the slow disk needs a C compiler."""
    compiler = find_compiler()
    return [name for name in CONTROLS if compiler or name != "slow-disk"]
