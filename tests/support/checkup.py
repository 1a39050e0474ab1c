"""An installation without a fault, in which a test plants one, and the findings of `ackstream doctor`."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from console.doctor.runner import Doctor, DoctorReport
from console.doctor.setup import ROLES, Setup, load_setup
from console.web.settings import ConsoleSettings
from ingest.settings import IngestSettings
from stream.keys import Shard
from stream.settings import StreamSettings
from tests.support.samples.signed import SECRETS
from worker.group.consumer_group import ConsumerGroup
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat
from worker.settings import WorkerSettings

KINDS: Mapping[str, type[StreamSettings]] = {
    "ingest": IngestSettings,
    "worker": WorkerSettings,
    "console": ConsoleSettings,
}
LOCAL_DISK = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
GROUP = "log"


@dataclass(frozen=True, slots=True)
class Installation:
    """Settings in the environment, a stream on the shared server, and a group with a live consumer."""

    monkeypatch: pytest.MonkeyPatch
    data: Path
    server: Redis
    url: str
    shard: Shard
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    """Those of the live consumers, by group."""

    def set(self, settings: Mapping[str, str | None]) -> None:
        """Set these variables; None unsets one."""
        for name, value in settings.items():
            if value is None:
                self.monkeypatch.delenv(f"ACKSTREAM_{name}", raising=False)
            else:
                self.monkeypatch.setenv(f"ACKSTREAM_{name}", value)

    def load(self, roles: Sequence[str] = ROLES, **changes: Any) -> Setup:
        """Read the settings as the command does, on a machine with a local disk."""
        return replace(load_setup(KINDS, roles), **{"mounts": lambda: LOCAL_DISK, **changes})

    async def run(self, *, probe: bool = False, check_seconds: float = 30, **changes: Any) -> DoctorReport:
        """Run all checks, by default without the self-test."""
        return await Doctor(self.load(**changes), with_probe=probe, check_seconds=check_seconds).run()

    async def examine(self, **changes: Any) -> list[str]:
        """Return the ids of all findings, sorted."""
        return sorted(finding.id for finding in (await self.run(**changes)).findings)

    async def command(self, *words: Any) -> Any:
        """Run one command on the server."""
        execute: Any = self.server.execute_command
        return await execute(*words)

    run_command = command
    """The name that tests.support.faults.redis_server expects."""

    async def add_group(self, name: str, *, alive: bool = True) -> None:
        """Register a group as a worker does, with a consumer that reads."""
        group = GroupRef(self.server, self.shard, name)
        await ConsumerGroup(group).ensure()
        if alive:
            self.heartbeats[name] = Heartbeat(group)
            await self.read()

    async def read(self) -> None:
        """Let the live consumers read. Ten seconds later `doctor` does not count them."""
        for name, heartbeat in self.heartbeats.items():
            await heartbeat.beat()
            await self.server.xreadgroup(name, heartbeat.consumer, {self.shard.stream: ">"})

    async def append(self, seconds_ago: float = 0) -> None:
        """Append an entry of this age that no group has read."""
        await self.server.xadd(self.shard.stream, {b"v": b"1"}, id=f"{int((time.time() - seconds_ago) * 1000)}-0")


@asynccontextmanager
async def make_installation(
    monkeypatch: pytest.MonkeyPatch, folder: Path, server: Redis, url: str, shard: Shard
) -> AsyncIterator[Installation]:
    """Yield an installation in which `doctor` finds nothing."""
    data = folder / "data"
    data.mkdir(mode=0o700)
    made = Installation(monkeypatch, data, server, url, shard)
    made.set(
        {
            "DATA": str(data),
            "REDIS_URL": url,
            "STREAM": shard.name,
            "SIGNATURE_SECRETS": SECRETS,
            "HANDLERS": GROUP,
            "ADMIN_PORT": "0",
            "SPOOL_BYTES": str(2**20),
            "CONNECTIONS": "100",
            "ACK_BUDGET_MS": "10000",
        }
    )
    await made.add_group(GROUP)
    yield made
