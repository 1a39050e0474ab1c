"""Judges how the replay of a sample of dead letters went: handled, waiting, or back among the dead letters."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from console.queries.causes.cause import cause_id
from stream.keys import Shard
from worker.events.timestamps import iso_time
from worker.group.group_ref import GroupRef
from worker.replay.job import Place, Progress, State
from worker.replay.repository import Replays

READ_AT_MOST = 5000
PAGE = 500


@dataclass(frozen=True, slots=True)
class SampleOutcome:
    """The outcome of a sample so far. ``waiting`` and ``failed`` are None if there are too many entries to read.

    ``failed`` counts those that are dead letters again. All others that were copied are handled.
    """

    progress: Progress
    failed: int | None
    waiting: int | None

    @property
    def handled(self) -> int | None:
        """The number of handled entries; None if it is unknown."""
        if self.failed is None or self.waiting is None:
            return None
        return max(self.progress.done - self.failed - self.waiting, 0)

    def summary(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        progress = self.progress
        to_copy = max(progress.replay.total - progress.done, 0) if progress.state is State.RUNNING else 0
        return {
            "replay": progress.replay.id,
            "state": progress.state.value,
            "at": iso_time(progress.replay.started_ms),
            "by": progress.started.person or None,
            "total": progress.replay.total,
            "copied": progress.done,
            "handled": self.handled,
            "failed": self.failed,
            "waiting": None if self.waiting is None else self.waiting + to_copy,
            "is_over": progress.state is not State.RUNNING and self.waiting == 0,
        }


async def find_sample(
    server: Redis, shards: Sequence[Shard], groups: Sequence[str], cause: str
) -> SampleOutcome | None:
    """Return the outcome of the latest sample of this cause; None without one. Raises RedisError."""
    samples = [
        (progress.replay.started_ms, shard, progress)
        for shard in shards
        for group in groups
        for progress in await Replays(GroupRef(server, shard, group)).all()
        if _is_sample(progress, cause)
    ]
    if not samples:
        return None
    _, shard, progress = max(samples, key=lambda sample: sample[0])
    return await _judge(GroupRef(server, shard, progress.replay.group), progress)


def _is_sample(progress: Progress, cause: str) -> bool:
    replay = progress.replay
    words = (replay.group, *replay.selection.reasons, *replay.selection.errors)
    return replay.place is Place.DEAD and bool(replay.selection.ids) and cause_id(words) == cause


async def _judge(group: GroupRef, progress: Progress) -> SampleOutcome:
    """Count the copies that a stream of the group has. A retry that is delayed is later than the start."""
    name, started = progress.replay.id.encode(), progress.replay.started_ms
    failed = await _count_copies(_read(group.server, group.dead, started), name)
    copies = [await _count_copies(_read(group.server, key, started), name) for key in (group.replay, group.retry)]
    delayed: Any = await group.server.zrangebyscore(group.delayed, started, "+inf", start=0, num=READ_AT_MOST)
    packed = b"\xa6replay\xa8" + name  # MessagePack's form of this field (worker.settle.delayed)
    copies.append(None if len(delayed) == READ_AT_MOST else sum(packed in copy for copy in delayed))
    waiting = None if None in copies else sum(number for number in copies if number)
    return SampleOutcome(progress, failed, waiting)


async def _count_copies(entries: AsyncIterator[Any], replay: bytes) -> int | None:
    copies = number = 0
    async for fields in entries:
        number += 1
        copies += fields.get(b"replay") == replay
        if number == READ_AT_MOST:
            return None
    return copies


async def _read(server: Redis, key: str, since_ms: int) -> AsyncIterator[Any]:
    start = str(since_ms)
    while True:
        page: Any = await server.xrange(key, start, count=PAGE)
        for _, fields in page:
            yield fields
        if len(page) < PAGE:
            return
        start = f"({page[-1][0].decode()}"
