"""Calls a handler: limits the number of running calls, picks the next call, and repeats calls.

A slow call delays its own events only. The worker settles the others, and starts the next batch while the call runs.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import nullcontext
from typing import Any

from worker.dispatch.backlog import Backlog
from worker.dispatch.call import Call, Handler, Limits, call_handler, split_by_handler
from worker.dispatch.circuit import Circuit
from worker.dispatch.queue import CallQueue
from worker.dispatch.slots import Slots
from worker.dispatch.suspects import Suspect, Suspects
from worker.dispatch.target_check import TargetCheck
from worker.handlers.errors import Divide
from worker.sources import FEW, Source

CANCEL_SECONDS = 5.0
LONGEST_STEP_SECONDS = 1.0
IDLE_SECONDS = 0.2
KEPT_ENTRIES = 1000
KEPT_BYTES = 32 * 1024 * 1024
COPIES_SECONDS = 2.0
TURN_SECONDS = 0.0001
"""How long a task makes calls before others may run. To let them run after each cost a tenth of an empty call."""
MOST_FAILURES = 100
"""After this many failed calls the worker settles them, because the backlog has a limit in bytes."""


class Dispatcher:
    """Runs the calls of one handler for one shard, at most ``limits.concurrency`` at once over all shards."""

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        circuit: Circuit,
        suspects: Suspects,
        backlog: Backlog,
        target: TargetCheck,
        clock: Callable[[], float] = time.monotonic,
        slots: Slots | None = None,
        traced: Handler | None = None,
    ) -> None:
        self._handler, self._traced = handler, traced
        self._limits = limits
        self._slots = slots or Slots(limits.concurrency)
        self._circuit, self._suspects = circuit, suspects
        self._target, self._clock = target, clock
        self._queue = CallQueue(lambda: backlog.is_full)
        self._isolated = CallQueue()
        self._running: dict[asyncio.Task[None], Call | None] = {}
        self._lost: dict[asyncio.Task[None], Call | None] = {}
        self._dropped: set[asyncio.Task[None]] = set()
        self._ended: list[Call] = []
        self._fault: BaseException | None = None
        self._event_seconds, self._failures = 0.0, 0
        self._isolates, self._watches = False, True
        self.has_room = asyncio.Event()  # set once more can be put; the consumer clears it before it puts a batch

    @property
    def is_busy(self) -> bool:
        """Whether a call waits, runs, or has ended and is not taken yet."""
        return bool(self._queue.calls or self._suspects or self._running or self._ended)

    @property
    def started(self) -> list[Call]:
        """The calls that run, also those that ignore their cancellation, or have ended and are not taken yet."""
        return [*filter(None, (*self._running.values(), *self._lost.values())), *self._ended]

    @property
    def can_take_more(self) -> bool:
        """Whether to put more entries: no live call waits, and one more call could start."""
        if self._suspects or self._isolates:
            return False
        if self._circuit.is_paused:  # some to probe with: the first ones may never succeed
            events = [event for call in self._queue.calls for event in call.events]
            return len(events) < KEPT_ENTRIES and sum(len(event.raw) for event in events) < KEPT_BYTES
        if self._queue.has_live:
            return False
        live = sum(call is not None and call.source is Source.LIVE for call in self._running.values())
        return live + len(self._lost) < self._limits.concurrency

    @property
    def hangs(self) -> bool:
        """Whether a call still runs CANCEL_SECONDS after its timeout."""
        latest_start = self._clock() - self._limits.timeout_seconds - CANCEL_SECONDS
        calls = (*self._running.values(), *self._lost.values())
        return any(call is not None and call.started < latest_start for call in calls)

    def count_wanted_copies(self) -> int:
        """Return how many retries and replays to read: those handled in COPIES_SECONDS, and at most FEW."""
        rate = self._limits.concurrency * COPIES_SECONDS / self._event_seconds if self._event_seconds else FEW
        target = min(FEW, max(self._limits.concurrency, int(rate)))
        waiting = self._queue.copy_events
        return target - waiting if 2 * waiting <= target else 0

    def seconds_until_copies_due(self) -> float:
        """Return the seconds until half of the waiting retries and replays are handled: then more can be read."""
        if not self._circuit.can_start or not self._event_seconds:
            return LONGEST_STEP_SECONDS
        seconds = self._queue.copy_events / 2 * self._event_seconds / self._limits.concurrency
        return min(LONGEST_STEP_SECONDS, seconds)

    def count(self) -> Counter[Source]:
        """Count the entries of each stream in calls that wait, run, or are not taken yet."""
        counts = self._queue.count() + self._suspects.count() + self._isolated.count()
        for call in (*filter(None, self._running.values()), *self._ended):
            counts[call.source] += len(call.entries)
        return counts

    def put(self, call: Call) -> None:
        """Queue events that were read together."""
        self._target.postpone()
        self._queue.put(split_by_handler(self._handler, call))

    def put_suspects(self, suspects: Iterable[Suspect]) -> None:
        """Queue suspects, which are handled under a mark."""
        self._target.postpone()
        self._suspects.put(suspects)

    def take(self) -> list[Call]:
        """Return the calls that have ended since the last time. Raises RedisError if a mark failed."""
        if (fault := self._fault) is not None:
            self._fault = None
            raise fault
        ended, self._ended, self._failures = self._ended, [], 0
        return ended

    async def check_target(self) -> None:
        """Check the handler's target if the group has been quiet. Returns when the check ends or a call arrives."""
        if self.is_busy:
            self._target.postpone()
        else:
            await self._target.run()

    async def probe(self, consumer: str) -> None:
        """Start one call with a single event, if it is this consumer's turn. Raises RedisError."""
        if not (self._queue.calls or self._suspects) or not await self._circuit.take_probe(consumer):
            return
        call = self._queue.take_newest()
        if call is None:
            self._start(self._isolate(probes=True))
            return
        self._circuit.start_probe(call)
        self._start(self._make(call, self._queue))

    async def step(self, aside: asyncio.Future[Any] | None = None) -> None:
        """Run calls until one ends or, if more can be taken, ``aside`` is done; at most LONGEST_STEP_SECONDS."""
        self._start_calls()
        await asyncio.sleep(0)  # lets them start
        if self._ended and not self._running:
            return
        waiting: set[asyncio.Future[Any]] = {*self._running, *self._lost}
        self._watches = aside is None or self.can_take_more
        if aside is not None and self._watches:
            self.has_room.set()
            waiting.add(aside)
        if waiting:
            timeout = IDLE_SECONDS if self.is_busy and not self._running else LONGEST_STEP_SECONDS
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        elif self.is_busy:
            await asyncio.sleep(IDLE_SECONDS)

    def close(self) -> None:
        """Start no further call, and forget the calls that wait."""
        self._queue.close()
        self._isolated.close()
        self._suspects.clear()

    async def cancel(self) -> None:
        """Drop all calls. A call that ignores its cancellation still counts as running until it ends."""
        for waiting in (self._queue, self._isolated, self._suspects):
            waiting.clear()
        self._ended.clear()
        self._circuit.drop(is_checked=self._target.hasten())
        self._dropped |= self._running.keys()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=LONGEST_STEP_SECONDS)
        self._lost |= self._running
        self._running.clear()
        self._isolates = False

    def _start_calls(self) -> None:
        """Start as many calls as may run. Suspects wait until no other call runs."""
        if not self._circuit.can_start or self._isolates:
            return
        if self._suspects:
            if not self._running:
                self._start(self._isolate())
            return
        free = (1 if self._circuit.allows_one_call else self._limits.concurrency) - len(self._running) - len(self._lost)
        for _ in range(min(free, len(self._queue))):
            self._start(self._work(self._queue))

    def _start(self, work: Coroutine[Any, Any, object]) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._running[task] = None
        task.add_done_callback(self._end)
        return task

    async def _work(self, queue: CallQueue) -> None:
        """Make one call after the other."""
        goes_on = True
        while goes_on:
            goes_on = await self._take_turn(queue)
            await asyncio.sleep(0)  # a handler that never waits must not block the event loop

    async def _take_turn(self, queue: CallQueue) -> bool:
        """Make calls for TURN_SECONDS, or one that takes longer. Return whether to continue."""
        is_isolated = queue is self._isolated
        async with nullcontext() if is_isolated else self._slots.one:
            turn_end = self._clock() + TURN_SECONDS
            while self._circuit.can_start and (is_isolated or not self._suspects):
                call = queue.take()
                if call is None or not await self._make(call, queue) or self._failures >= MOST_FAILURES:
                    return False  # the step ends, and failures are settled
                if call.started + call.seconds >= turn_end:
                    return self._watches or not self.can_take_more  # else the step ends, and the next batch is put
        return False

    async def _isolate(self, *, probes: bool = False) -> None:
        """Handle some of the suspects under a mark, while no other call of the group runs in this worker."""
        self._isolates = True
        try:
            async with self._slots.take_all():
                if calls := self._suspects.take():  # none if the worker stopped while this waited for the slots
                    for call in calls:
                        self._isolated.put(split_by_handler(self._handler, call))
                    async with self._suspects.mark(calls, self._limits.timeout_seconds):
                        await self._work_isolated(probes=probes)
                    self._suspects.put_back(self._isolated.calls)
                    self._isolated.clear()
        finally:
            self._isolates = False

    async def _work_isolated(self, *, probes: bool) -> None:
        if probes and (call := self._isolated.take()) is not None:
            self._circuit.start_probe(call)
            await self._make(call, self._isolated)
            return
        count = min(self._limits.concurrency, len(self._isolated))
        if tasks := [self._start(self._work(self._isolated)) for _ in range(count)]:
            await asyncio.wait(tasks)

    async def _make(self, call: Call, queue: CallQueue) -> bool:
        """Make one call, taken from ``queue``. Return False if it was cancelled."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs as a task
        self._running[task] = call
        call.started = self._clock()
        is_traced = self._traced is not None and (len(call.events) > 1 or call.events[0].traceparent is not None)
        handler = self._traced if is_traced and self._traced else self._handler
        call.error = await call_handler(handler, call.events, task, self._dropped)
        if task in self._dropped:  # the handler swallowed the cancellation
            return False
        call.seconds = self._clock() - call.started
        self._event_seconds += (call.seconds / len(call.events) - self._event_seconds) / 8
        self._running[task] = None
        self._sort(call, queue)
        return True

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        self._lost.pop(task, None)
        self._dropped.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()

    def _sort(self, call: Call, queue: CallQueue) -> None:
        """Decide whether a call has ended or is repeated."""
        if isinstance(call.error, Divide):
            if (half := len(call.events) // 2) > 0:
                queue.put_back(call.part(0, half), call.part(half))
                return
            call.error = call.error.__cause__ or call.error
        if self._circuit.record(call):
            call.error = None
            queue.put_back(call)
        else:
            self._ended.append(call)
            self._failures += call.error is not None
