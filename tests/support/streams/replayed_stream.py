"""A stream, and the replays of one of its groups."""

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from runtime.tasks import cancel_and_wait
from stream.entry import EntryId
from stream.keys import Shard
from tests.support.samples.events import body, entry
from tests.support.waiting import until
from worker.group.group_ref import GroupRef
from worker.replay.entry_filter import ALL
from worker.replay.job import Place, Progress, Replay, State
from worker.replay.repository import Replays
from worker.replay.scheduler import ReplayScheduler

GROUP = "g"


class ReplayedStream:
    """A stream with entries, and replays of one group of it that nobody handles."""

    def __init__(self, url: str, server: Redis, shard: Shard) -> None:
        self.url = url
        self.server = server
        self.shard = shard
        self.replays = Replays(GroupRef(server, shard, GROUP))

    async def append(self, numbers: Sequence[int], key: str = "", *, payload: Any = None, **options: Any) -> None:
        """Append a status of each of these messages, as an entry of that millisecond."""
        for start in range(0, len(numbers), 1000):
            async with self.server.pipeline(transaction=False) as pipe:
                for number in numbers[start : start + 1000]:
                    fields: Any = entry(body(message_uuid=f"m-{number}", **(payload or {})), **options).to_fields()
                    pipe.xadd(key or self.shard.stream, fields, id=f"{number}-0")
                await pipe.execute()

    async def start(
        self,
        end: int,
        replay_id: str = "r",
        place: Place = Place.STREAM,
        rate: float = 100_000,
        selection: Any = ALL,
        **starter: str,
    ) -> Replay:
        await self.server.sadd(self.shard.groups, GROUP)
        replay = Replay(
            id=replay_id,
            group=GROUP,
            place=place,
            selection=selection,
            rate=rate,
            begin="0-0",
            end=f"{end}-0",
            total=end,
            started_ms=0,
        )
        assert await self.replays.start(replay, **starter)
        return replay

    async def progress(self, replay_id: str = "r") -> Progress:
        progress = await self.replays.find(replay_id)
        assert progress is not None
        return progress

    async def has(self, state: State, replay_id: str = "r") -> None:
        async def is_reached() -> bool:
            return (await self.progress(replay_id)).state is state

        await until(is_reached)

    async def has_copied(self, number: int) -> None:
        async def is_reached() -> bool:
            return bool(await self.server.xlen(self.shard.replay(GROUP)) >= number)

        await until(is_reached)

    async def read_copies(self) -> list[int]:
        """The entries that were copied, in the order of the copies."""
        copies: Any = await self.server.xrange(self.shard.replay(GROUP))
        return [EntryId.from_text(fields[b"origin"].decode()).ms for _, fields in copies]

    def make_scheduler(self, archive: Path | None = None) -> ReplayScheduler:
        return ReplayScheduler(GroupRef(self.server, self.shard, GROUP), archive, poll_seconds=0.02, lease_ms=300)


async def run_beside(running: Sequence[ReplayScheduler], condition: Awaitable[Any]) -> None:
    """Await the condition while these look and copy; then they end in good order. Cancelled, it ends them at once."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        looking = [tasks.create_task(scheduler.run(stop, tasks)) for scheduler in running]
        try:
            await condition
            stop.set()
            await asyncio.wait(looking)
            while copying := _find_copiers(running):
                await asyncio.wait(copying)
        finally:
            await cancel_and_wait(looking)
            await cancel_and_wait(_find_copiers(running))


def _find_copiers(running: Sequence[ReplayScheduler]) -> list[asyncio.Task[None]]:
    return [task for scheduler in running for task in scheduler.copiers]
