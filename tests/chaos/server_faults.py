"""Faults of what the processes depend on: what Redis holds, the database, the spool's disk."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.mounts import fill
from tests.chaos.site import Site
from tests.chaos.verdict import GROUPS

FULL_BYTES = 1024 * 1024
ROOM = "1gb"


@dataclass(slots=True)
class GroupDestroyed:
    """XGROUP DESTROY of one group or all."""

    groups: Sequence[str]

    @classmethod
    def made(cls, rng: random.Random) -> "GroupDestroyed":
        return cls(rng.sample(GROUPS, rng.randint(1, len(GROUPS))))

    async def begin(self, site: Site) -> None:
        for group in self.groups:
            await site.order("XGROUP DESTROY", site.shard.stream, group)

    async def end(self, site: Site) -> None:
        pass

    def __str__(self) -> str:
        return " and ".join(self.groups)


@dataclass(slots=True)
class RedisFull:
    """Redis holds more than its maxmemory allows, and refuses what takes more."""

    async def begin(self, site: Site) -> None:
        await site.order("CONFIG SET", "maxmemory", FULL_BYTES)

    async def end(self, site: Site) -> None:
        await site.order("CONFIG SET", "maxmemory", ROOM)

    def __str__(self) -> str:
        return f"maxmemory {FULL_BYTES}"


@dataclass(slots=True)
class DatabaseKilled:
    """SIGKILL of the postmaster; started again when the fault ends."""

    async def begin(self, site: Site) -> None:
        assert site.postgresql is not None
        await site.postgresql.kill()

    async def end(self, site: Site) -> None:
        assert site.postgresql is not None
        await site.postgresql.restart()

    def __str__(self) -> str:
        return "SIGKILL postmaster"


@dataclass(slots=True)
class DatabaseStopped:
    """All its processes stand still."""

    _stopped: Sequence[Any] = ()

    async def begin(self, site: Site) -> None:
        assert site.postgresql is not None
        self._stopped = site.postgresql.stop()

    async def end(self, site: Site) -> None:
        assert site.postgresql is not None
        site.postgresql.go_on(self._stopped)

    def __str__(self) -> str:
        return "SIGSTOP postmaster and its children"


@dataclass(slots=True)
class SpoolFull:
    """No room is left on the spool's disk."""

    _ballast: Path | None = None

    async def begin(self, site: Site) -> None:
        assert site.has_disk
        self._ballast = fill(site.ingest_data)

    async def end(self, site: Site) -> None:  # noqa: ARG002 - the interface of a fault
        if self._ballast is not None:
            self._ballast.unlink()

    def __str__(self) -> str:
        return "no room on its disk"
