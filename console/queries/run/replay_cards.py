"""Read all replays for a page, with their speed, the time left, and the part of the stream that they keep."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from console.queries.replays import list_replays
from console.queries.run.group_overview import Kept, read_kept
from stream.keys import Shard
from worker.replay.job import ENDED, Progress, State
from worker.replay.repository import MOST_UNREAD

WINDOW_SECONDS = 15.0
SHORTEST_SECONDS = 2.0
STEP_SECONDS = 0.5
FORGET_SECONDS = 60.0
MARGIN = 250
"""A replay waits if its next batch of this size has no room."""


@dataclass(slots=True)
class CopyRates:
    """The speed of each running replay in the last seconds, from the progress that pages have read."""

    _points: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)

    def observe(self, progress: Progress, now: float | None = None) -> float | None:
        """Return the copies a second: of the last seconds, else since the start; None if neither is known."""
        now = time.monotonic() if now is None else now
        points = self._points.setdefault(progress.replay.id, deque())
        if not points or now - points[-1][0] >= STEP_SECONDS:
            points.append((now, progress.done))
        while len(points) > 1 and points[0][0] < now - WINDOW_SECONDS:
            points.popleft()
        seconds = now - points[0][0]
        if seconds >= SHORTEST_SECONDS:
            return max(progress.done - points[0][1], 0) / seconds
        return _average(progress) if progress.moved.ms == progress.started.ms else None

    def forget(self, now: float | None = None) -> None:
        """Forget the replays that no page has read lately."""
        now = time.monotonic() if now is None else now
        for replay_id in [name for name, points in self._points.items() if now - points[-1][0] > FORGET_SECONDS]:
            del self._points[replay_id]


def _average(progress: Progress) -> float | None:
    seconds = time.time() - progress.started.ms / 1000
    return progress.done / seconds if seconds >= SHORTEST_SECONDS else None


@dataclass(frozen=True, slots=True)
class ReplayCard:
    """A replay as a page shows it. The last five fields are those of replays that have not ended."""

    progress: Progress
    rate_now: float | None = None
    copying: bool = False
    """Whether a worker copies for it."""
    is_full: bool = False
    """Whether it waits, because the group has too many copies that are not handled."""
    kept: Kept | None = None
    """The part of the stream that is not trimmed because of it."""

    @property
    def has_ended(self) -> bool:
        """Whether it is done or cancelled."""
        return self.progress.state in ENDED

    @property
    def seconds_left(self) -> float | None:
        """The time until its end at its speed; None if that is not known."""
        if self.progress.state is not State.RUNNING or not self.rate_now:
            return None
        return max(self.progress.replay.total - self.progress.done, 0) / self.rate_now


async def read_cards(server: Redis, shards: Sequence[Shard], rates: CopyRates) -> list[ReplayCard]:
    """Return the replays of all groups and shards, those that started last first. Raises RedisError."""
    replays = await list_replays(server, shards, None)
    active = [progress for progress in replays if progress.state not in ENDED]
    kept = [await read_kept(server, shard) for shard in shards] if active else []
    cards = [await _card(server, shards, progress, rates, kept) for progress in active]
    cards += [ReplayCard(progress) for progress in replays if progress.state in ENDED]
    rates.forget()
    return sorted(cards, key=lambda card: (card.progress.started.ms, card.progress.replay.id), reverse=True)


async def _card(
    server: Redis, shards: Sequence[Shard], progress: Progress, rates: CopyRates, kept: Sequence[dict[str, Kept]]
) -> ReplayCard:
    replay = progress.replay
    async with server.pipeline(transaction=False) as pipe:
        for shard in shards:
            pipe.exists(shard.copying(replay.group, replay.id))
            pipe.xlen(shard.replay(replay.group))
        replies: list[Any] = await pipe.execute()
    is_running = progress.state is State.RUNNING
    held = [parts[replay.hold] for parts in kept if replay.hold in parts]
    return ReplayCard(
        progress,
        rates.observe(progress) if is_running else None,
        any(replies[::2]),
        is_running and any(unread >= MOST_UNREAD - MARGIN for unread in replies[1::2]),
        Kept.sum_up(held) if held else None,
    )
