"""Workers whose handler notes what it is called with (`support/handlers/recorder.py`), and a look at their notes."""

import asyncio
import itertools
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from console.queries.replays import ReplayRequest, plan, start
from console.queries.stats import gather_stats
from stream.keys import Shard
from tests.support.processes import Process, quick_worker
from tests.support.samples.events import body, entry
from tests.support.waiting import PATIENCE_SECONDS, until
from worker.group.group_ref import GroupRef
from worker.replay.entry_filter import ALL
from worker.replay.job import Place, State
from worker.replay.repository import Replays
from worker.sources import streams

GROUP = "recorder"
GOOD = "ok-good."
MODULE = Path(__file__).parents[1] / "handlers" / "recorder.py"


@dataclass(slots=True)
class RecordingWorkers:
    """A stream, and workers of one group of it."""

    server: Redis
    shard: Shard
    folder: Path
    running: ExitStack
    settings: dict[str, str]
    workers: list[Process] = field(default_factory=list)
    pace: float = 1.0
    """The factor of the workers' intervals."""

    async def start(self, options: str = "", *, function: str = "handle", **settings: str) -> Process:
        """Start one worker more, and return it when it reads."""
        worker = self.launch(options, function=function, **settings)
        await worker.has_logged("consumer.ready")
        return worker

    def launch(self, options: str = "", *, function: str = "handle", **settings: str) -> Process:
        """Start one worker more. It may die of its first entry before it has logged that it reads."""
        handler = f"{GROUP}=recorder:{function}#{options}"
        environment = {**self.settings, **settings}
        worker = self.running.enter_context(quick_worker(self.pace, handler, self.folder, environment))
        self.workers.append(worker)
        return worker

    async def append(self, *message_uuids: str) -> None:
        """Append a status of each of these messages."""
        async with self.server.pipeline(transaction=False) as pipe:
            for message_uuid in message_uuids:
                fields: Any = entry(body(message_uuid=message_uuid, to="447700900123")).to_fields()
                pipe.xadd(self.shard.stream, fields)
            await pipe.execute()

    def read_notes(self, word: str) -> list[list[str]]:
        """Return the values of this word in the handler's notes, in order."""
        file = self.folder / "calls.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        return [words for first, *words in map(str.split, lines) if first == word]

    def times(self, word: str) -> Counter[str]:
        """How often the handler has noted this word for each message."""
        return Counter(words[0] for words in self.read_notes(word) if not words[0].startswith(GOOD))

    async def group(self) -> dict[str, Any]:
        """Count the outstanding entries of the group."""
        counts: dict[str, Any] = (await gather_stats(self.server, [self.shard]))["groups"][GROUP]
        return counts

    async def is_done(self, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Return when nothing is unread, pending or waiting for a retry."""

        async def is_empty() -> bool:
            return bool((await self.group())["outstanding"] == 0)

        await until(is_empty, seconds=seconds)

    async def is_done_among_good(self, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Return when nothing is left, while events that succeed come in: so bad ones are given up."""

        async def is_empty() -> bool:
            return bool((await self.group())["outstanding"] == 0)

        await self.append_good_until(is_empty, seconds=seconds)

    async def append_good_until(self, condition: Callable[[], Awaitable[bool]], *, seconds: float) -> None:
        """Append an event that succeeds ten times a second until the condition holds."""
        number = itertools.count()

        async def holds() -> bool:
            if await condition():
                return True
            await self.append(f"{GOOD}{next(number)}")
            await asyncio.sleep(0.1)
            return False

        await until(holds, seconds=seconds)

    async def letters(self) -> list[tuple[str, str, int]]:
        """Message, error and attempts of each dead letter, sorted."""
        entries: Any = await self.server.xrange(self.shard.dead(GROUP))
        return sorted(
            (
                fields[b"payload"].split(b'"')[3].decode(),
                fields[b"error"].decode(),
                int(fields[b"attempt"]),
            )
            for _, fields in entries
        )

    async def kill(self, worker: Process) -> set[str]:
        """Kill a worker; return the origins of its entries in flight."""
        worker.kill()
        self.workers.remove(worker)
        return {
            origin
            for stream in streams(self.shard, GROUP).values()
            for origin in await self._read_pending(stream, worker)
        }

    async def _read_pending(self, stream: str, dead: Process) -> list[str]:
        """Return the origins of the entries that a dead worker has read and not settled."""
        pending: Any = await self.server.xpending_range(stream, GROUP, "-", "+", 10_000)
        ids = [
            item["message_id"] for item in pending if item["consumer"].decode().split("-")[-2] == str(dead.child.pid)
        ]
        read: list[Any] = [await self.server.xrange(stream, entry_id, entry_id) for entry_id in ids]
        return [
            fields.get(b"origin", b"%d/%b" % (self.shard.number, entry_id)).decode()
            for entries in read
            for entry_id, fields in entries
        ]


@contextmanager
def run_recording_workers(
    url: str, server: Redis, shard: Shard, folder: Path, pace: float = 1.0
) -> Iterator[RecordingWorkers]:
    """A place to record in, with the workers' intervals multiplied by ``pace``; ends the workers."""
    shutil.copy(MODULE, folder)
    with ExitStack() as running:
        yield RecordingWorkers(server, shard, folder, running, {"redis_url": url, "stream": shard.name}, pace=pace)


def ids(what: str, numbers: Sequence[int]) -> list[str]:
    return [f"{what}-{number}" for number in numbers]


async def replay(server: Redis, shard: Shard, group: str, rate: float) -> str:
    """Start a replay of all that is on the stream."""
    request = ReplayRequest(shard, group, Place.STREAM, ALL, rate, None)
    return (await start(server, [(request, await plan(server, request))])).id


async def count_copies(server: Redis, shard: Shard, group: str, replay_id: str) -> int:
    """How many copies a replay has made; nothing has stopped it."""
    progress = await Replays(GroupRef(server, shard, group)).find(replay_id)
    assert progress is not None
    assert progress.state in (State.RUNNING, State.DONE)
    return progress.done
