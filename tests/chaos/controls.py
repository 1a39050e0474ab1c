"""Control runs: something that protects is switched off, and the judge must see the loss, or the rig is blind."""

import asyncio
import shutil
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any

from tests.chaos import early_ack
from tests.chaos.building import built
from tests.chaos.court import sitting
from tests.chaos.process_faults import Ended, Fsync, Stopped, Victim
from tests.chaos.site import Cluster, Setup

RATE, COUNT = 400.0, 1600
LOAD_SECONDS = COUNT / RATE
DRAIN_SECONDS = 60.0
FSYNC_MS = 2000


@dataclass(frozen=True, slots=True)
class Control:
    """How its site differs, and what happens on it while the load is on."""

    happens: Callable[[Cluster], Coroutine[Any, Any, None]]
    changes: Mapping[str, Any] = field(default_factory=dict)
    forges: bool = False
    """Whether the judge is told of a 200 that nobody gave."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the judge saw in a control run."""

    name: str
    acked: int
    lost: int
    left: Mapping[str, int]

    @property
    def sees(self) -> bool:
        return self.lost > 0 and not self.left

    def __str__(self) -> str:
        rest = f", but {self.left} were left, so that this means nothing" if self.left else ""
        return f"{self.name}: {'' if self.sees else 'BLIND: '}lost {self.lost} of {self.acked}{rest}"


async def watch(name: str, folder: Path) -> Seen:
    """Play one control run on a site of its own."""
    control = CONTROLS[name]
    setup = Setup(folder, database="sqlite", **control.changes)
    async with built(setup) as site, sitting(site, folder) as court:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(court.load(0, COUNT, RATE, name))
            tasks.create_task(control.happens(site))
        if control.forges:
            await court.forge(0)
        ending = await court.end(0, DRAIN_SECONDS)
    return Seen(name, ending.verdict.acked, ending.verdict.lost, ending.left)


async def _redis_dies_unread(site: Cluster) -> None:
    """Redis dies while nobody reads, so that what is confirmed is there only."""
    workers = [Stopped(Victim("worker", number)) for number in range(len(site.workers))]
    for one in workers:
        await one.begin(site)
    await asyncio.sleep(LOAD_SECONDS / 2)
    death = Ended(Victim("redis", 0), SIGKILL)
    await death.begin(site)
    await death.end(site)
    for one in workers:
        await one.end(site)


async def _slow_disk(site: Cluster) -> None:
    """The same on a slow disk: while an fsync is under way Redis puts off even the writing."""
    disk = Fsync(Victim("redis", 0), delay_ms=FSYNC_MS)
    await disk.begin(site)
    await _redis_dies_unread(site)
    await disk.end(site)


async def _workers_die(site: Cluster) -> None:
    await asyncio.sleep(LOAD_SECONDS / 2)
    for number in range(len(site.workers)):
        death = Ended(Victim("worker", number), SIGKILL)
        await death.begin(site)
        await death.end(site)


async def _nothing(_site: Cluster) -> None:
    pass


CONTROLS: Mapping[str, Control] = {
    "slow-disk": Control(_slow_disk, {"appendfsync": "everysec"}),
    "no-aof": Control(_redis_dies_unread, {"appendfsync": "off"}),
    "early-ack": Control(_workers_die, {"worker": (sys.executable, "-m", early_ack.__name__, "worker")}),
    "never-sent": Control(_nothing, forges=True),
}


def possible() -> list[str]:
    """Return the controls that this machine has what is needed for: a C compiler for the slow disk."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    return [name for name in CONTROLS if compiler or name != "slow-disk"]
