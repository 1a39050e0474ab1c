"""The calls of one handler: how many run at once, and what is kept when they fail for no fault of their events.

A call that is slow holds up its own events only: the others are settled, and the next batch begins beside it.
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

from worker.consumer.fetch_plan import Source
from worker.dispatch.call import Call, Handler, Limits, divided
from worker.dispatch.doubt import Doubt
from worker.dispatch.pause import Why
from worker.events.event import StatusEvent
from worker.handlers.errors import Divide, Gone, Unavailable, at_fault

CANCEL_SECONDS = 5.0
LONGEST_STEP_SECONDS = 1.0
IDLE_SECONDS = 0.2
KEPT_ENTRIES = 1000
KEPT_BYTES = 32 * 1024 * 1024


class Calls:
    """Runs the calls of one handler, at most ``limits.concurrency`` at once.

    ``mark`` is awaited before an entry that is handled alone. All handlers of a process share ``turn``, for of two such
    entries only one can be what the process dies of.
    """

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        mark: Callable[[Source, bytes], Awaitable[None]] | None = None,
        turn: asyncio.Lock | None = None,
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._clock = clock
        self._mark = mark
        self._turn = turn or asyncio.Lock()
        self._queue: deque[Call] = deque()
        self._solos: deque[Call] = deque()
        self._running: dict[asyncio.Task[None], Call | None] = {}
        self._lost: dict[asyncio.Task[None], Call | None] = {}
        self._fault: BaseException | None = None
        self._doubt = Doubt(limits, clock)
        self._away: Unavailable | None = None
        self._halt: Why | None = None
        self._alone = False
        self._probe: Call | None = None
        self._probed = False
        self._closed = self.paused = False

    @property
    def busy(self) -> bool:
        """Whether anything is to be handled, being handled, or handled and not taken yet."""
        return bool(self._queue or self._solos or self._running or self._doubt.calls)

    @property
    def room(self) -> bool:
        """Whether all calls have begun, and one more could."""
        return not (self._queue or self._solos) and len(self._running) + len(self._lost) < self._limits.concurrency

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
        for call in (*self._queue, *self._solos, *self._running.values(), *self._doubt.calls):
            if call is not None:
                counts[call.source] += len(call.entries)
        return counts

    def put(self, call: Call) -> None:
        """Queue what was read together, or what is to be handled alone."""
        if call.solo:
            self._solos.append(call)
        else:
            self._queue.extend(divided(self._handler, call))

    def take(self) -> list[Call]:
        """Return the calls that have ended since the last time."""
        if (fault := self._fault) is not None:
            self._fault = None
            raise fault
        self._look_for_trouble()
        return self._doubt.take(all_of_them=self._closed)

    def take_halt(self) -> Why | None:
        """Return, once, why the group has to be paused; by then everything that speaks for it is queued again."""
        why, self._halt = self._halt, None
        return why

    def take_probed(self) -> bool:
        """Whether a probe has come back since the last time, and had a target."""
        probed, self._probed = self._probed, False
        return probed

    def pause(self) -> None:
        """Begin nothing but probes until ``resume``; what fails meanwhile is queued again."""
        self.paused = True

    def resume(self, *, proven: bool = False) -> None:
        """Begin again, with one call alone until one has come back.

        ``proven``: a probe has succeeded, so whatever fails soon after is at fault itself, however much that is.
        """
        self._away, self._alone, self.paused = None, True, False
        self._doubt.begin(proven=proven)

    @property
    def takes_more(self) -> bool:
        """Whether, while paused, more can be kept to probe with: what came first may be what never succeeds."""
        if not self.paused:
            return False
        new = sum(len(call.events) for call in self._queue if not call.tried)
        return new < KEPT_ENTRIES and sum(len(one.raw) for call in self._queue for one in call.events) < KEPT_BYTES

    @property
    def could_probe(self) -> bool:
        """Whether there is something to probe with, and no probe under way."""
        return bool(self._queue or self._solos) and self._probe is None and self._halt is None

    def probe(self) -> None:
        """Begin one call with a single event: the newest that has not failed, for some never succeed."""
        if not self._queue:
            self._probe = self._solos.popleft()
            self._start(self._make_alone(self._probe), self._probe)
            return
        new = [place for place, call in enumerate(self._queue) if not call.tried]
        place = new[-1] if new else random.randrange(len(self._queue))  # noqa: S311 - no secret
        call = self._queue[place]
        if len(call.events) > 1:
            self._queue[place], call = call.part(0, -1), call.part(-1)
        else:
            del self._queue[place]
        self._probe = call
        self._start(self._make(call))

    async def step(self, aside: asyncio.Future[Any] | None = None) -> None:
        """Let calls run until a place is free or, once there is room, ``aside`` is done; for a second at most."""
        self._begin()
        await asyncio.sleep(0)  # by now those have begun
        if self._doubt.any_clear and not self._running:
            return
        waiting: set[asyncio.Future[Any]] = {*self._running, *self._lost}
        if aside is not None and self.room:
            waiting.add(aside)
        if waiting:
            await asyncio.wait(waiting, timeout=LONGEST_STEP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        elif self.busy:
            await asyncio.sleep(IDLE_SECONDS)

    def _begin(self) -> None:
        """Begin as many calls as may run. One that is to be handled alone waits for the end of all others."""
        if self.paused or self._away is not None:
            return
        if self._solos:
            if not self._running:
                call = self._solos.popleft()
                self._start(self._make_alone(call), call)
            return
        if any(call is not None and call.solo for call in self._running.values()):
            return
        free = (1 if self._alone else self._limits.concurrency) - len(self._running) - len(self._lost)
        for _ in range(min(free, len(self._queue))):
            self._start(self._work())

    def close(self) -> None:
        """Begin nothing more; what is queued is left."""
        self._closed = True
        self._queue.clear()
        self._solos.clear()

    async def cancel(self) -> None:
        """Drop everything. What does not let itself be cancelled is lost, but keeps its place as long as it runs."""
        self._queue.clear()
        self._solos.clear()
        self._doubt.drop()
        self._away, self._halt, self._probe, self._alone = None, None, None, False
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=LONGEST_STEP_SECONDS)
        self._lost |= self._running
        self._running.clear()

    def _start(self, working: Coroutine[Any, Any, object], call: Call | None = None) -> None:
        task: asyncio.Task[Any] = asyncio.create_task(working)
        self._running[task] = call
        task.add_done_callback(self._ended)

    async def _work(self) -> None:
        """Make one call after the other."""
        while self._queue and not self._solos and self._away is None and not self.paused:
            if not await self._make(self._queue.popleft()):
                return
            await asyncio.sleep(0)  # a handler that never waits must not keep the loop to itself

    async def _make_alone(self, call: Call) -> None:
        """Make a call of one entry that is marked before, when no other handler of this process does the same."""
        call.began = self._clock()
        async with AsyncExitStack() as turn:
            with suppress(TimeoutError):  # one that hangs keeps its turn
                async with asyncio.timeout(self._limits.timeout_seconds):
                    await turn.enter_async_context(self._turn)
            if self._mark is not None:
                await self._mark(call.source, call.entries[0][0])
            await self._make(call)

    async def _make(self, call: Call) -> bool:
        """Make one call; whether it was not lost."""
        own = asyncio.current_task()
        assert own is not None  # noqa: S101 - a coroutine that runs as a task
        self._running[own] = call
        call.began = self._clock()
        call.error = await self._error(call.events, own)
        if own.cancelling():  # and swallowed: the call is lost
            return False
        call.seconds = self._clock() - call.began
        self._running[own] = None
        self._sort(call)
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

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        self._lost.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()

    def _sort(self, call: Call) -> None:
        """Decide whether a call has ended, is to be made again, or speaks for a pause."""
        if call.error is None and call is not self._probe:
            self._alone = False
            self._doubt.add(call, counts=not self.paused)
            return
        failed = at_fault(call.error)
        if call is self._probe:
            self._probe, self._probed = None, not failed
        if isinstance(call.error, Gone):
            self._halt, self.paused = Why.GONE, True
            self._put_back(call)
        elif isinstance(call.error, Unavailable):
            self._away = None if self.paused else call.error
            self._put_back(call)
        elif failed and self.paused:
            self._again([call])
        elif isinstance(call.error, Divide) and len(call.events) > 1:
            half = len(call.events) // 2
            self._queue.extendleft((call.part(half), call.part(0, half)))
        else:
            if isinstance(call.error, Divide):
                call.error = call.error.__cause__ or call.error
            self._alone = False
            self._doubt.add(call, counts=not self.paused)
            self._look_for_trouble()

    def _look_for_trouble(self) -> None:
        if self._doubt.tripped and not (self.paused or self._closed):
            self._halt, self.paused = Why.FAILING, True
            self._again(self._doubt.take_failures())

    def _put_back(self, call: Call) -> None:
        (self._solos if call.solo else self._queue).appendleft(call)

    def _again(self, calls: Iterable[Call]) -> None:
        """Queue these events again, as if nothing had been, each by itself: it may be one of them that fails a list."""
        for call in calls:
            for place in range(len(call.events)):
                part = call.part(place, place + 1)
                part.tried = True
                (self._solos if call.solo else self._queue).append(part)
