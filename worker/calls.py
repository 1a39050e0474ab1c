"""The calls of one handler: which events are handed over together, how many calls run at once, and what came of them.

A call that is slow holds up its own events only: the others are settled, and the next batch begins beside it.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from worker.outcome import Divide, Unavailable
from worker.status import StatusEvent
from worker.turns import Source

CANCEL_SECONDS = 5.0
LONGEST_STEP_SECONDS = 1.0


class Handler(Protocol):
    """What a group does with its events. It may see an event again, and must then come to the same effect."""

    def alone(self, event: StatusEvent) -> bool:
        """Whether this event is handed over by itself, not in one list with others of its batch."""

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Return when the effect is there to stay. Whatever is raised is about all these events (worker.outcome).

        It ends within ``Limits.timeout_seconds`` by itself, for example by raising TimedOut.
        """


@dataclass(frozen=True, slots=True)
class Limits:
    """What a handler may take."""

    concurrency: int = 1
    """How many calls run at once."""
    timeout_seconds: float = 60.0
    batch_entries: int = 4000
    """How many entries, at most, are read at once and handed over in one list."""


@dataclass(slots=True, eq=False)
class Call:
    """Events that are handed over together, with their entries, all of one read; and why they failed, if they did."""

    source: Source
    entries: Sequence[tuple[bytes, dict[bytes, bytes]]]
    events: Sequence[StatusEvent]
    began: float = 0.0
    seconds: float = 0.0
    error: BaseException | None = None

    def part(self, start: int, end: int | None = None) -> "Call":
        """Return a call of its own for some of the events."""
        return Call(self.source, self.entries[start:end], self.events[start:end])


def divided(handler: Handler, call: Call) -> list[Call]:
    """Return the calls to make for what was read together."""
    alone = [place for place, event in enumerate(call.events) if handler.alone(event)]
    if not alone:
        return [call] if call.events else []
    apart = [call.part(place, place + 1) for place in alone]
    if len(alone) == len(call.events):
        return apart
    together = [place for place, event in enumerate(call.events) if not handler.alone(event)]
    entries = [call.entries[place] for place in together]
    return [Call(call.source, entries, [call.events[place] for place in together]), *apart]


class Calls:
    """Runs the calls of one handler, at most ``limits.concurrency`` at once."""

    def __init__(self, handler: Handler, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._handler = handler
        self._limits = limits
        self._clock = clock
        self._queue: deque[Call] = deque()
        self._running: dict[asyncio.Task[None], Call | None] = {}
        self._lost: dict[asyncio.Task[None], Call | None] = {}
        self._fault: BaseException | None = None
        self._finished: list[Call] = []
        self._away: Unavailable | None = None
        self._probing = False

    @property
    def busy(self) -> bool:
        """Whether anything is to be handled, being handled, or handled and not taken yet."""
        return bool(self._queue or self._running or self._finished)

    @property
    def room(self) -> bool:
        """Whether all calls have begun, and one more could."""
        return not self._queue and len(self._running) + len(self._lost) < self._limits.concurrency

    @property
    def away(self) -> Unavailable | None:
        """What the handler raised when its target was away; then nothing begins until ``resume``."""
        return self._away

    @property
    def hangs(self) -> bool:
        """Whether a call goes on although its time was over long enough ago for it to be cancelled."""
        begun_before = self._clock() - self._limits.timeout_seconds - CANCEL_SECONDS
        calls = (*self._running.values(), *self._lost.values())
        return any(call is not None and call.began < begun_before for call in calls)

    def count(self) -> Counter[Source]:
        """Count the entries of each stream that are queued, being handled, or not taken yet."""
        counts: Counter[Source] = Counter()
        for call in (*self._queue, *self._running.values(), *self._finished):
            if call is not None:
                counts[call.source] += len(call.entries)
        return counts

    def put(self, call: Call) -> None:
        """Queue what was read together."""
        self._queue.extend(divided(self._handler, call))

    def take(self) -> list[Call]:
        """Return the calls that have ended since the last time."""
        if self._fault is not None:
            raise self._fault
        finished, self._finished = self._finished, []
        return finished

    def resume(self) -> None:
        """Begin again, with one call alone until one has come back."""
        self._away, self._probing = None, True

    async def step(self, aside: asyncio.Future[Any] | None = None) -> None:
        """Let calls run until a place is free or, once there is room, ``aside`` is done; for a second at most."""
        free = (1 if self._probing else self._limits.concurrency) - len(self._running) - len(self._lost)
        for _ in range(min(free, len(self._queue))):
            task = asyncio.create_task(self._work())
            self._running[task] = None
            task.add_done_callback(self._ended)
        await asyncio.sleep(0)  # by now those have begun
        if self._finished and not self._running:
            return
        waiting: set[asyncio.Future[Any]] = {*self._running, *self._lost}
        if aside is not None and self.room:
            waiting.add(aside)
        if waiting:
            await asyncio.wait(waiting, timeout=LONGEST_STEP_SECONDS, return_when=asyncio.FIRST_COMPLETED)

    def close(self) -> None:
        """Begin nothing more; what is queued is left."""
        self._queue.clear()

    async def cancel(self) -> None:
        """Drop everything. What does not let itself be cancelled is lost, but keeps its place as long as it runs."""
        self._queue.clear()
        self._finished.clear()
        self._away, self._probing = None, False
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=LONGEST_STEP_SECONDS)
        self._lost |= self._running
        self._running.clear()

    async def _work(self) -> None:
        """Make one call after the other."""
        own = asyncio.current_task()
        assert own is not None  # noqa: S101 - a coroutine that runs as a task
        while self._queue and self._away is None:
            call = self._running[own] = self._queue.popleft()
            call.began = self._clock()
            call.error = await self._error(call.events, own)
            if own.cancelling():  # and swallowed: the call is lost
                return
            call.seconds = self._clock() - call.began
            self._running[own] = None
            self._sort(call)
            await asyncio.sleep(0)  # a handler that never waits must not keep the loop to itself

    async def _error(self, events: Sequence[StatusEvent], own: asyncio.Task[None]) -> BaseException | None:
        try:
            await self._handler.handle(events)
        except asyncio.CancelledError as exc:
            if own.cancelling():
                raise
            return exc  # the handler's own doing
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever a handler raises is its events' failure
            return exc
        return None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._lost.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()

    def _sort(self, call: Call) -> None:
        if isinstance(call.error, Unavailable):
            self._away = call.error
            self._queue.appendleft(call)
            return
        self._probing = False
        if isinstance(call.error, Divide):
            if len(call.events) > 1:
                half = len(call.events) // 2
                self._queue.extendleft((call.part(half), call.part(0, half)))
                return
            call.error = call.error.__cause__ or call.error
        self._finished.append(call)
