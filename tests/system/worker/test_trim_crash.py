"""Every trimmed entry is in the archive, also if its trimmer is killed or stopped."""

import random
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from stream.entry import EntryId
from stream.keys import Shard
from stream.redis import client as connect
from tests.support.fork_server import PYTHON
from tests.support.processes import Process, start_process
from tests.support.streams.retention import group, register
from tests.support.waiting import until
from tests.support.workers.crash_rounds import ROUNDS, SEED
from worker.retention.archive_reader import read
from worker.retention.pages import raw_ranges

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parents[3]
KILLS = 4 * ROUNDS
ROUND_ENTRIES = 1500
BATCH = 500


@dataclass(slots=True)
class Rig:
    """A stream of odd entries, an archive, and a list of all entries that were ever appended."""

    url: str
    server: Redis
    shard: Shard
    folder: Path
    running: ExitStack
    rng: random.Random
    appended: dict[EntryId, tuple[bytes, ...]] = field(default_factory=dict)

    def trimmer(self) -> Process:
        """Start a process that trims."""
        command = (
            *PYTHON,
            "-m",
            "tests.support.streams.trimmer_process",
            self.url,
            self.shard.name,
            str(self.folder / "archive"),
        )
        trimmer = start_process(command, self.folder, "trimmer", {"PYTHONPATH": str(ROOT)})
        self.running.callback(trimmer.end)
        return trimmer

    async def append(self) -> None:
        """Append the entries of a round; the group reads and acks them."""
        before = len(self.appended)
        flats = {
            EntryId(0, before + n, self.rng.choice([0, 7, 2**64 - 1])): self.flat() for n in range(1, ROUND_ENTRIES + 1)
        }
        async with self.server.pipeline(transaction=False) as pipe:
            for entry_id, flat in flats.items():
                pipe.execute_command("XADD", self.shard.stream, entry_id.redis, *flat)
            await pipe.execute()
        self.appended |= flats
        while reply := await self.server.xreadgroup("done", "c", {self.shard.stream: ">"}, count=BATCH):
            read_now: Any = reply
            await self.server.xack(self.shard.stream, "done", *(entry_id for entry_id, _ in read_now[0][1]))

    def flat(self) -> tuple[bytes, ...]:
        """Return names and values of any bytes, with repeated names and a few values of the greatest size."""
        size = self.rng.choices([0, 20, 500, 131_072], [1, 10, 50, 0.2])[0]
        pairs = [self.rng.randbytes(self.rng.randrange(12)), self.rng.randbytes(size)] * self.rng.choice([1, 1, 2])
        return (b"payload", self.rng.randbytes(10), *pairs)

    async def on_stream(self) -> dict[EntryId, tuple[bytes, ...]]:
        entries: Any = await self.server.xrange(self.shard.stream)
        return {EntryId.from_redis(0, entry_id): tuple(flat) for entry_id, flat in entries}

    async def is_down_to(self, entries: int) -> None:
        async def enough() -> bool:
            return bool(await self.server.xlen(self.shard.stream) <= entries)

        await until(enough)

    async def check_entries(self) -> int:
        """Check that each entry is on the stream or in the archive, bit for bit; return how many are in each."""
        stream = await self.on_stream()  # first: a trimmer that runs takes from there to here
        archived = list(read(self.folder / "archive", self.shard.stream))
        stored = {entry.id: entry.flat for entry in archived}
        assert len(stored) == len(archived)
        assert stored.items() <= self.appended.items()
        assert stream.items() <= self.appended.items()
        assert stored.keys() | stream.keys() == self.appended.keys()
        return len(stored)


@pytest.fixture
async def rig(valkey_url: str, shard: Shard, tmp_path: Path) -> AsyncIterator[Rig]:
    print(f"ACKSTREAM_CRASH_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    async with raw_ranges(connect.client(valkey_url)) as server:
        with ExitStack() as running:
            rng = random.Random(SEED)  # noqa: S311 - no secret
            rig = Rig(valkey_url, server, shard, tmp_path, running, rng)
            await group(server, shard, "done")
            await register(server, shard, "done")
            yield rig


async def test_a_trimmer_killed_at_any_time_loses_no_entry(rig: Rig) -> None:
    """After every kill, every trimmed entry is in the archive, and the next trimmer continues."""
    archived = 0
    for _ in range(KILLS):
        await rig.append()
        trimmer = rig.trimmer()
        length = int(await rig.server.xlen(rig.shard.stream))
        await rig.is_down_to(length - 1)
        await rig.is_down_to(rig.rng.randrange(length))
        trimmer.kill()
        archived = await rig.check_entries()
    assert archived >= len(rig.appended) // 3
    rig.trimmer()
    await rig.is_down_to(0)
    assert await rig.check_entries() == len(rig.appended)


async def test_trimmers_that_stop_in_turn_lose_no_entry(rig: Rig) -> None:
    """A trimmer that is stopped for longer than its lease is replaced, and does no harm when it continues."""
    trimmers = [rig.trimmer(), rig.trimmer()]
    await rig.append()
    await rig.is_down_to(ROUND_ENTRIES - 1)
    for number in range(KILLS):
        stopped = trimmers[number % 2]
        stopped.send(signal.SIGSTOP)
        await rig.append()
        await rig.is_down_to(rig.rng.randrange(ROUND_ENTRIES // 2))
        stopped.send(signal.SIGCONT)
        await rig.check_entries()
    await rig.is_down_to(0)
    assert await rig.check_entries() == len(rig.appended)
