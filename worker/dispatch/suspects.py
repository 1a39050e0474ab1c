"""Suspects in flight: entries that may have killed their workers. Picks which of them to handle together."""

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
    """A suspect entry, its event, and the number of workers that died while this entry alone was marked."""

    source: Source
    entry: tuple[bytes, list[bytes]]
    event: StatusEvent
    deaths: int


class Suspects:
    """The waiting suspects of one group. All groups of a process share ``turn``: one group marks at a time."""

    def __init__(self, poison: PoisonTracker, heartbeat: Heartbeat, turn: asyncio.Lock) -> None:
        self._poison = poison
        self._heartbeat = heartbeat
        self._turn = turn
        self._waiting: list[Suspect] = []
        self._half = 0

    def __len__(self) -> int:
        """Return how many suspects wait."""
        return len(self._waiting)

    def count(self) -> Counter[Source]:
        """Count the waiting entries of each stream."""
        return Counter(suspect.source for suspect in self._waiting)

    def put(self, suspects: Iterable[Suspect]) -> None:
        """Add suspects. Half of those without a death are handled together, the others one by one."""
        self._waiting = sorted([*self._waiting, *suspects], key=lambda suspect: suspect.deaths)
        self._half = (sum(not suspect.deaths for suspect in self._waiting) + 1) // 2

    def put_back(self, calls: Iterable[Call]) -> None:
        """Add the events of calls that did not run."""
        for call in calls:
            pairs = zip(call.entries, call.events, strict=True)
            self.put(Suspect(call.source, entry, event, self._deaths(call.source, entry)) for entry, event in pairs)

    def take(self) -> list[Call]:
        """Return the calls of the next suspects to handle together, a call for each stream."""
        without_death = sum(not suspect.deaths for suspect in self._waiting)
        size = min(without_death, self._half) or 1
        suspects, self._waiting = self._waiting[:size], self._waiting[size:]
        by_source = [(source, [suspect for suspect in suspects if suspect.source is source]) for source in Source]
        return [
            Call(source, [suspect.entry for suspect in group], [suspect.event for suspect in group])
            for source, group in by_source
            if group
        ]

    @asynccontextmanager
    async def mark(self, calls: Sequence[Call], wait_seconds: float) -> AsyncIterator[None]:
        """Mark the entries of these calls while the block runs. Raises RedisError.

        Waits at most ``wait_seconds`` for its turn, because another group's handler may hang.
        """
        async with AsyncExitStack() as stack:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await stack.enter_async_context(self._turn)
            consumer = self._heartbeat.consumer
            await self._poison.mark(
                consumer, [(call.source, entry_id) for call in calls for entry_id, _ in call.entries]
            )
            yield
            await self._poison.unmark(consumer)

    def clear(self) -> None:
        """Forget the waiting suspects."""
        self._waiting.clear()

    def _deaths(self, source: Source, entry: tuple[bytes, list[bytes]]) -> int:
        return self._poison.find(source, entry[0]).deaths
