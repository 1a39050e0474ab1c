"""Real workers of one group: the stream, the appended entries and the progress."""

import itertools
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from stream.entry import Entry
from stream.keys import Shard
from stream.redis.client import client
from tests.support.processes import Process, becomes, quick_worker
from tests.support.waiting import until
from worker.store.database import open_engine
from worker.store.migrate import migrate

GROUP = "store"
BATCH_ENTRIES = 250

_received_ms = itertools.count(1_764_000_000_000)


@dataclass(slots=True)
class WorkerCluster:
    """A stream, all that was appended to it, and the workers of its group `store`."""

    server: Redis
    shard: Shard
    engine: AsyncEngine
    folder: Path
    running: ExitStack
    settings: Mapping[str, str]
    appended: list[tuple[str, Entry]] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)
    pace: float = 1.0
    """The factor of the workers' intervals."""

    def worker(self, **settings: str) -> Process:
        """Start one worker more."""
        started = quick_worker(self.pace, GROUP, self.folder, {**self.settings, **settings})
        self.workers.append(self.running.enter_context(started))
        return self.workers[-1]

    async def start(self, number: int, **settings: str) -> list[Process]:
        """Start this number of further workers, and return them when they read."""
        started = [self.worker(**settings) for _ in range(number)]
        for worker in started:
            await worker.has_logged("consumer.ready")
        return started

    async def append(self, payloads: Sequence[bytes], *, entry_id: str = "*", after: Sequence[str] = ()) -> None:
        """Append each payload as an entry, the first ones in one transaction after the command, if there is one.

        The ids are Redis's own unless ``entry_id`` is a moment, as in `5-*`.
        """
        for start in range(0, len(payloads), 1000):
            async with self.server.pipeline() as pipe:
                if after and not start:
                    pipe.execute_command(*after)
                chunk = payloads[start : start + 1000]
                part = [
                    Entry(payload, "application/json", next(_received_ms), secrets.token_hex(8)) for payload in chunk
                ]
                for entry in part:
                    fields: Any = entry.to_fields()
                    pipe.xadd(self.shard.stream, fields, id=entry_id)
                ids = (await pipe.execute())[-len(part) :]
            self.appended += [(entry_id.decode(), entry) for entry_id, entry in zip(ids, part, strict=True)]

    async def on_stream(self) -> set[str]:
        """The messages that have an entry."""
        entries: Any = await self.server.xrange(self.shard.stream)
        return {orjson.loads(fields[b"payload"])["message_uuid"] for _, fields in entries}

    async def left(self) -> int:
        """How many entries are unread or pending; all of them while the group is not there."""
        return sum(await self._unread_and_pending())

    async def unread(self) -> int:
        """How many entries are unread; all of them while the group is not there."""
        return (await self._unread_and_pending())[0]

    async def _unread_and_pending(self) -> tuple[int, int]:
        async with self.server.pipeline() as pipe:
            pipe.exists(self.shard.stream)
            pipe.xlen(self.shard.stream)
            exists, length = await pipe.execute()
            groups: list[Any] = await self.server.xinfo_groups(self.shard.stream) if exists else []
        if not groups:
            return length, 0
        lag = groups[0]["lag"]
        return length if lag is None else lag, groups[0]["pending"]

    async def is_down_to(self, entries: int, *, seconds: float = 90) -> None:
        """Return when at most this number of entries are left."""

        async def enough() -> bool:
            return await self.left() <= entries

        await until(enough, seconds=seconds)

    async def in_hand(self, worker: Process) -> set[str]:
        """The names under which a worker, dead or alive, has entries pending."""
        consumers: Any = await self.server.xinfo_consumers(self.shard.stream, GROUP)
        names = {consumer["name"].decode() for consumer in consumers if consumer["pending"]}
        return {name for name in names if self.is_of(worker, name)}

    @staticmethod
    def is_of(worker: Process, name: str) -> bool:
        """Whether it is a name of this worker, which takes a new one whenever it drops what it has in hand."""
        return name.split("-")[-2] == str(worker.child.pid)

    async def find_beating(self) -> set[str]:
        """The names that have a counter: those in use, and those of the dead until they are removed."""
        counters: Any = await self.server.hkeys(self.shard.alive(GROUP))
        return {name.decode() for name in counters}

    async def is_claimed_from(self, names: set[str], *, seconds: float) -> None:
        """Return when a worker has taken over entries from one of these."""
        await becomes(lambda: self.find_claimed() & names, seconds=seconds)

    def find_claimed(self) -> set[str]:
        """The names from which a worker has taken entries over."""
        return {line["dead"] for worker in self.workers for line in worker.read_log("heartbeat.claimed")}


@asynccontextmanager
async def run_worker_cluster(
    url: str, shard: Shard, database_url: str, folder: Path, pace: float = 1.0
) -> AsyncIterator[WorkerCluster]:
    """Work for workers on these servers, with their intervals multiplied by ``pace``; ends the workers."""
    server, engine = client(url), open_engine(database_url, create=True)
    common = {"redis_url": url, "stream": shard.name, "database_url": database_url, "batch_entries": str(BATCH_ENTRIES)}
    try:
        await migrate(engine)
        with ExitStack() as running:
            yield WorkerCluster(server, shard, engine, folder, running, common, pace=pace)
    finally:
        await engine.dispose()
        await server.aclose()
