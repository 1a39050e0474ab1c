"""Suspects in flight: entries that may be the one that killed their workers, and the halves to handle together."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import NamedTuple

from worker.dispatch.call import Call
from worker.events.event import StatusEvent
from worker.group.heartbeat import Heartbeat
from worker.group.poison import PoisonTracker
from worker.sources import Source


class Suspect(NamedTuple):
    """An entry with its event, and how many workers died while it alone was marked."""

    source: Source
    entry: tuple[bytes, list[bytes]]
    event: StatusEvent
    deaths: int


class Suspects:
    """The suspects of one group that wait. All groups of a process share ``turn``: one of them is marked at a time."""

    def __init__(self, poison: PoisonTracker, heartbeat: Heartbeat, turn: asyncio.Lock) -> None:
        self._poison = poison
        self._heartbeat = heartbeat
        self._turn = turn
        self._waiting: list[Suspect] = []
        self._half = 0

    def __len__(self) -> int:
        """Count those that wait."""
        return len(self._waiting)

    def count(self) -> Counter[Source]:
        """Count the entries of each stream."""
        return Counter(suspect.source for suspect in self._waiting)

    def put(self, suspects: Iterable[Suspect]) -> None:
        """Add suspects. Half of those that never were marked alone are handled together, the others one by one."""
        self._waiting = sorted([*self._waiting, *suspects], key=lambda one: one.deaths)
        self._half = (sum(not one.deaths for one in self._waiting) + 1) // 2

    def put_back(self, calls: Iterable[Call]) -> None:
        """Add the events of calls that were not made."""
        for call in calls:
            pairs = zip(call.entries, call.events, strict=True)
            self.put(Suspect(call.source, entry, event, self._deaths(call.source, entry)) for entry, event in pairs)

    def take(self) -> list[Call]:
        """Return the calls of the next suspects to handle together, a call for each stream."""
        fresh = sum(not one.deaths for one in self._waiting)
        size = min(fresh, self._half) or 1
        taken, self._waiting = self._waiting[:size], self._waiting[size:]
        by_source = [(source, [one for one in taken if one.source is source]) for source in Source]
        return [
            Call(source, [one.entry for one in some], [one.event for one in some]) for source, some in by_source if some
        ]

    @asynccontextmanager
    async def mark(self, calls: Sequence[Call], wait_seconds: float) -> AsyncIterator[None]:
        """Mark the entries of these calls for the length of the block. Raises RedisError.

        Another group that hangs keeps its turn: it is waited for so long at most.
        """
        async with AsyncExitStack() as stack:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await stack.enter_async_context(self._turn)
            consumer = self._heartbeat.consumer
            await self._poison.mark(consumer, [(call.source, one) for call in calls for one, _ in call.entries])
            yield
            await self._poison.unmark(consumer)

    def clear(self) -> None:
        """Forget those that wait."""
        self._waiting.clear()

    def _deaths(self, source: Source, entry: tuple[bytes, list[bytes]]) -> int:
        return self._poison.find(source, entry[0]).deaths
