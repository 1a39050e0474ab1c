"""Version 0.1.0rc1 and the present version, side by side under load on the same Redis and database.

`make upgrade` runs it at length.
"""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from console.queries.stats import gather_stats
from console.simulate.plan import plan
from console.up.valkey import find_free_port
from stream.entry import Entry
from stream.keys import Shard
from tests.support.deployment.old_version import Version, extract_old_version
from tests.support.http.load import JSON
from tests.support.processes import Process, becomes
from tests.support.waiting import until
from tests.support.workers.rollup_rows import count_sums, read_sums
from tests.support.workers.store_rows import project_rows, project_states, read_rows
from worker.events.vonage import parse
from worker.store.database import open_engine

NEW = Version("new")
KINDS = "worker", "ingest"
# Read at import, because a test sees no setting of the machine.
LONG = int(os.environ.get("ACKSTREAM_UPGRADE_WEBHOOKS", "0"))
STEP_WEBHOOKS = LONG or 30
CASES = (
    list(itertools.product(("sqlite", "postgresql"), itertools.permutations(KINDS))) if LONG else [("sqlite", KINDS)]
)
SENDERS, PAUSE_SECONDS = 4, 0.005 if LONG else 0.05
HANDLER = '''
"""Writes the id of each event that it handled; every seventh event fails at first."""

import zlib
from pathlib import Path

from ackstream import Retry, StatusEvent


async def on_status(event: StatusEvent) -> None:
    tried = Path("tried") / event.event_id
    if zlib.crc32(event.event_id.encode()) % 7 == 0 and not tried.exists():
        tried.touch()
        raise Retry(0.1)
    with open("handled", "a") as file:
        file.write(f"{event.event_id}\\n")
'''


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return extract_old_version(tmp_path_factory.mktemp("old"))


def make_webhooks() -> Iterator[bytes]:
    """Yield statuses of made-up messages, without end."""
    for seed in itertools.count():
        for webhook in plan(500, seed, start=datetime.now(UTC), shuffle=True):
            yield webhook.body


@dataclass(slots=True)
class UpgradeSender:
    """Sends each webhook again until one of the running ingests answers 200."""

    webhooks: Iterator[bytes] = field(default_factory=make_webhooks)
    urls: list[str] = field(default_factory=list)
    stored: list[bytes] = field(default_factory=list)
    is_done: bool = False

    async def send_all(self, http: aiohttp.ClientSession) -> None:
        """Send until `is_done` is set."""
        while not self.is_done:
            body = next(self.webhooks)
            for turn in itertools.count(len(self.stored)):
                if await self._send(http, body, self.urls[turn % len(self.urls)]):
                    break
                await asyncio.sleep(0.02)
            self.stored.append(body)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self, http: aiohttp.ClientSession, body: bytes, url: str) -> bool:
        try:
            async with http.post(url, data=body) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


class OldAndNew:
    """A folder, its settings, the running processes by kind, and the sender of webhooks to its ingests."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.sender = UpgradeSender()
        self._settings = {"signatures": "off", "handlers": "store,audit=orders:on_status", **settings}
        self._running: dict[tuple[str, str], tuple[Process, str]] = {}
        (folder / "orders.py").write_text(HANDLER)
        (folder / "tried").mkdir()

    async def start(self, kind: str, version: Version) -> None:
        """Start a process of this version; return when it is ready and further webhooks were stored."""
        port, admin_port = find_free_port(), find_free_port()
        ports = {"admin_port": str(admin_port)} | ({"port": str(port)} if kind == "ingest" else {})
        process = version.start(self.folder, kind, **self._settings, **ports)
        self._running[kind, version.name] = process, f"http://127.0.0.1:{port}/webhooks/message-status"
        await process.is_ready(admin_port)
        self._set_urls()
        await self.take_webhooks()

    async def stop(self, kind: str, version: Version) -> None:
        """Stop the process of this version; return when further webhooks were stored."""
        process, _ = self._running.pop((kind, version.name))
        self._set_urls()
        process.send(signal.SIGTERM)
        assert await process.wait_for_end(40) == 0, process.said
        process.end()
        await self.take_webhooks()

    async def replace(self, kind: str, version: Version, successor: Version) -> None:
        """Let both versions work side by side for a while, then stop the first one."""
        await self.start(kind, successor)
        await self.stop(kind, version)

    async def migrate(self, version: Version) -> None:
        """Run `ackstream migrate` of this version."""
        process = version.start(self.folder, "migrate", **self._settings)
        assert await process.wait_for_end(60) == 0, process.said

    async def take_webhooks(self) -> None:
        """Return when STEP_WEBHOOKS further webhooks were stored, if the sender sends."""
        target = len(self.sender.stored) + STEP_WEBHOOKS
        if self.sender.stored:
            await becomes(lambda: len(self.sender.stored) >= target, seconds=300)

    def end(self) -> None:
        """End all processes."""
        for process, _ in self._running.values():
            process.end()

    def _set_urls(self) -> None:
        self.sender.urls[:] = [url for (kind, _), (_, url) in self._running.items() if kind == "ingest"]


@asynccontextmanager
async def open_old_and_new(folder: Path, settings: Mapping[str, str]) -> AsyncIterator[OldAndNew]:
    """Yield it; its processes end with the block."""
    both = OldAndNew(folder, settings)
    try:
        yield both
    finally:
        both.end()


@asynccontextmanager
async def send_webhooks(sender: UpgradeSender) -> AsyncIterator[None]:
    """Let the sender send while the block runs; at its end all webhooks are stored."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout, headers=JSON) as http, asyncio.TaskGroup() as senders:
        try:
            for _ in range(SENDERS):
                senders.create_task(sender.send_all(http))
            await becomes(lambda: sender.stored)
            yield
        finally:
            sender.is_done = True


@pytest.mark.parametrize(("database_kind", "order"), CASES)
async def test_two_versions_run_side_by_side(
    old: Version, own_server: tuple[str, Redis], shard: Shard, database_url: str, order: Sequence[str], tmp_path: Path
) -> None:
    """Forward and back, workers first, over all four pairs of versions: each status has one row and was handled.

    At length also with ingest first, on both databases, and forward again.
    """
    redis_url, server = own_server
    settings = {"redis_url": redis_url, "stream": shard.name, "database_url": database_url}
    async with open_old_and_new(tmp_path, settings) as both:
        await both.migrate(old)
        for kind in order:
            await both.start(kind, old)
        async with send_webhooks(both.sender):
            await both.migrate(NEW)
            for before, after in itertools.pairwise([old, NEW, old, NEW] if LONG else [old, NEW, old]):
                for kind in order:
                    await both.replace(kind, before, after)
        event_ids = {parse(Entry(body, "application/json", 1, "r"), "0/1-0").event_id for body in both.sender.stored}
        await becomes(lambda: event_ids <= set((tmp_path / "handled").read_text().split()))
        await until(lambda: has_settled_all(server, shard))
        await both.migrate(NEW)

    await check_tables(database_url, event_ids)
    groups = (await gather_stats(server, [shard]))["groups"]
    assert {name: group["dead"] for name, group in groups.items()} == {"store": 0, "audit": 0}


async def has_settled_all(server: Redis, shard: Shard) -> bool:
    """Whether both groups have read and acked everything."""
    groups: list[dict[str, Any]] = await server.xinfo_groups(shard.stream)
    return [(group["lag"], group["pending"]) for group in groups] == [(0, 0)] * 2


async def check_tables(database_url: str, event_ids: set[str]) -> None:
    """Assert that each event has one row, each message the state of its events, and the roll-ups count each once."""
    engine = open_engine(database_url)
    try:
        messages, events = await read_rows(engine)
        stored = [row["event"] for row in events.values()]
        assert events.keys() == event_ids
        assert messages == project_rows(stored)
        assert await read_sums(engine) == count_sums(project_states(stored).values())
    finally:
        await engine.dispose()
