"""Calls a handler: how many calls run at once, which one begins next, and which are made again.

A call that is slow holds up its own events only: the others are settled, and the next batch begins beside it.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from worker.dispatch.backlog import Backlog
from worker.dispatch.call import Call, Handler, Limits, split_by_handler
from worker.dispatch.circuit import Circuit
from worker.dispatch.queue import CallQueue
from worker.dispatch.suspects import Suspect, Suspects
from worker.events.event import StatusEvent
from worker.handlers.errors import Divide
from worker.sources import FEW, Source

CANCEL_SECONDS = 5.0
LONGEST_STEP_SECONDS = 1.0
IDLE_SECONDS = 0.2
KEPT_ENTRIES = 1000
KEPT_BYTES = 32 * 1024 * 1024
OTHERS_SECONDS = 2.0
TURN_SECONDS = 0.0001
"""Calls that do not wait are made for so long before the loop has its turn. Giving it one after each call, and asking
each time whether more is wanted, took a tenth of the time of a call that does nothing."""
MOST_FAILURES = 100
"""After so many failed calls they are settled, because what is delayed has a limit in bytes."""


class Dispatcher:
    """Runs the calls of one handler, at most ``limits.concurrency`` at once."""

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        circuit: Circuit,
        suspects: Suspects,
        backlog: Backlog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._circuit = circuit
        self._suspects = suspects
        self._clock = clock
        self._queue = CallQueue(lambda: backlog.is_full)
        self._running: dict[asyncio.Task[None], Call | None] = {}
        self._lost: dict[asyncio.Task[None], Call | None] = {}
        self._ended: list[Call] = []
        self._fault: BaseException | None = None
        self._event_seconds = 0.0
        self._isolates = False
        self._watches = True
        self._failures = 0

    @property
    def is_busy(self) -> bool:
        """Whether anything has to be handled, is being handled, or is handled and not taken yet."""
        return bool(self._queue.calls or self._suspects or self._running or self._ended)

    @property
    def can_take_more(self) -> bool:
        """Whether more entries can be put: no live call waits, and one more could begin if it were put."""
        if self._suspects or self._isolates:
            return False
        if self._circuit.is_paused:  # keep some to probe with: what came first may be what never succeeds
            events = [event for call in self._queue.calls for event in call.events]
            return len(events) < KEPT_ENTRIES and sum(len(event.raw) for event in events) < KEPT_BYTES
        if self._queue.has_live:
            return False
        live = sum(call is not None and call.source is Source.LIVE for call in self._running.values())
        return live + len(self._lost) < self._limits.concurrency

    @property
    def hangs(self) -> bool:
        """Whether a call goes on although its time was over long enough ago for it to be cancelled."""
        begun_before = self._clock() - self._limits.timeout_seconds - CANCEL_SECONDS
        calls = (*self._running.values(), *self._lost.values())
        return any(call is not None and call.started < begun_before for call in calls)

    def count_wanted_copies(self) -> int:
        """How many retries and replays to read now: as many as the calls handle in OTHERS_SECONDS, and few at most."""
        pace = self._limits.concurrency * OTHERS_SECONDS / self._event_seconds if self._event_seconds else FEW
        most = min(FEW, max(self._limits.concurrency, int(pace)))
        waiting = self._queue.copy_events
        return most - waiting if 2 * waiting <= most else 0

    def seconds_until_copies_due(self) -> float:
        """In how many seconds half of the waiting retries and replays are handled, so that more are wanted."""
        if not self._circuit.can_start or not self._event_seconds:
            return LONGEST_STEP_SECONDS
        seconds = self._queue.copy_events / 2 * self._event_seconds / self._limits.concurrency
        return min(LONGEST_STEP_SECONDS, seconds)

    def count(self) -> Counter[Source]:
        """Count the entries of each stream that are in flight: waiting, being handled, or not taken yet."""
        counts = self._queue.count() + self._suspects.count()
        for call in (*self._running.values(), *self._ended):
            if call is not None:
                counts[call.source] += len(call.entries)
        return counts

    def put(self, call: Call) -> None:
        """Queue what was read together."""
        self._queue.put(split_by_handler(self._handler, call))

    def put_suspects(self, suspects: Iterable[Suspect]) -> None:
        """Queue entries that have to be handled under a mark."""
        self._suspects.put(suspects)

    def take(self) -> list[Call]:
        """Return the calls that have ended since the last time. Raises what Redis raised at a mark."""
        if (fault := self._fault) is not None:
            self._fault = None
            raise fault
        ended, self._ended, self._failures = self._ended, [], 0
        return ended

    async def probe(self, consumer: str) -> None:
        """Begin one call with a single event, if it is this consumer's turn. Raises RedisError."""
        if not (self._queue.calls or self._suspects) or not await self._circuit.take_probe(consumer):
            return
        call = self._queue.take_newest()
        if call is None:
            self._start(self._isolate(probes=True))
            return
        self._circuit.start_probe(call)
        self._start(self._make(call))

    async def step(self, aside: asyncio.Future[Any] | None = None) -> None:
        """Let calls run until one place is free or, if more is wanted, ``aside`` is done; for a second at most."""
        self._begin()
        await asyncio.sleep(0)  # by now those have begun
        if self._ended and not self._running:
            return
        waiting: set[asyncio.Future[Any]] = {*self._running, *self._lost}
        self._watches = aside is None or self.can_take_more
        if aside is not None and self._watches:
            waiting.add(aside)
        if waiting:
            idle = not self._running and self.is_busy
            timeout = IDLE_SECONDS if idle else LONGEST_STEP_SECONDS
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        elif self.is_busy:
            await asyncio.sleep(IDLE_SECONDS)

    def close(self) -> None:
        """Begin nothing more, and forget what waits."""
        self._queue.clear()
        self._suspects.clear()

    async def cancel(self) -> None:
        """Drop everything. A call that does not let itself be cancelled keeps its place while it runs."""
        self.close()
        self._ended.clear()
        self._circuit.drop()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=LONGEST_STEP_SECONDS)
        self._lost |= self._running
        self._running.clear()
        self._isolates = False

    def _begin(self) -> None:
        """Begin as many calls as may run. Suspects wait for the end of all others."""
        if not self._circuit.can_start or self._isolates:
            return
        if self._suspects:
            if not self._running:
                self._start(self._isolate())
            return
        free = (1 if self._circuit.allows_one_call else self._limits.concurrency) - len(self._running) - len(self._lost)
        for _ in range(min(free, len(self._queue))):
            self._start(self._work())

    def _start(self, working: Coroutine[Any, Any, object]) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.create_task(working)
        self._running[task] = None
        task.add_done_callback(self._end)
        return task

    async def _work(self, isolated: deque[Call] | None = None) -> None:
        """Make one call after the other, of the queue or of these."""
        turn_ends = self._clock() + TURN_SECONDS
        while self._circuit.can_start and (isolated is not None or not self._suspects):
            call = self._queue.take() if isolated is None else isolated.popleft() if isolated else None
            if call is None or not await self._make(call, isolated) or self._failures >= MOST_FAILURES:
                return  # so that the step ends, and failures are settled
            if call.started + call.seconds >= turn_ends:
                if not self._watches and self.can_take_more:
                    return  # so that what was read is looked at
                await asyncio.sleep(0)  # a handler that never waits must not keep the loop to itself
                turn_ends = self._clock() + TURN_SECONDS

    async def _isolate(self, *, probes: bool = False) -> None:
        """Handle some of the suspects, marked, while nothing else of the group runs in this worker."""
        self._isolates = True
        calls = self._suspects.take()
        waiting: deque[Call] = deque(one for call in calls for one in split_by_handler(self._handler, call))
        try:
            async with self._suspects.mark(calls, self._limits.timeout_seconds):
                if probes:
                    self._circuit.start_probe(waiting[0])
                    await self._make(waiting.popleft(), waiting)
                else:
                    most = min(self._limits.concurrency, len(waiting))
                    await asyncio.wait([self._start(self._work(waiting)) for _ in range(most)])
        finally:
            self._isolates = False
        self._suspects.put_back(waiting)

    async def _make(self, call: Call, isolated: deque[Call] | None = None) -> bool:
        """Make one call; whether it was not lost."""
        own = asyncio.current_task()
        assert own is not None  # noqa: S101 - a coroutine that runs as a task
        self._running[own] = call
        call.started = self._clock()
        call.error = await self._error(call.events, own)
        if own.cancelling():  # and swallowed: the call is lost
            return False
        call.seconds = self._clock() - call.started
        self._event_seconds += (call.seconds / len(call.events) - self._event_seconds) / 8
        self._running[own] = None
        self._sort(call, isolated)
        return True

    async def _error(self, events: Sequence[StatusEvent], own: asyncio.Task[Any]) -> BaseException | None:
        try:
            await self._handler.handle(events)
        except asyncio.CancelledError as exc:
            if own.cancelling():
                raise
            return exc  # the handler's own doing
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever a handler raises is its events' failure
            return exc
        return None

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        self._lost.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()

    def _sort(self, call: Call, isolated: deque[Call] | None) -> None:
        """Decide whether a call has ended or has to be made again."""
        if isinstance(call.error, Divide):
            if (half := len(call.events) // 2) > 0:
                self._put_back((call.part(0, half), call.part(half)), isolated)
                return
            call.error = call.error.__cause__ or call.error
        if self._circuit.record(call):
            call.error = None
            self._put_back((call,), isolated)
        else:
            self._ended.append(call)
            self._failures += call.error is not None

    def _put_back(self, calls: Sequence[Call], isolated: deque[Call] | None) -> None:
        if isolated is None:
            self._queue.put_back(*calls)
        else:
            isolated.extendleft(reversed(calls))
