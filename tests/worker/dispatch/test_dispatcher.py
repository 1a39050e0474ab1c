import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.samples.events import body, event
from tests.support.waiting import until
from tests.support.workers.parts import make_parts
from tests.worker.group.test_heartbeat import group
from worker.dispatch.call import Call, Limits
from worker.dispatch.dispatcher import CANCEL_SECONDS, Dispatcher
from worker.events.event import StatusEvent
from worker.handlers.errors import Divide, Unavailable
from worker.sources import Source
from worker.timing import TIMING


class Gates:
    """A handler whose events wait each until its gate is open, and then raise what they are told to."""

    def __init__(self, *, alone: Callable[[StatusEvent], bool] = lambda _event: True) -> None:
        self._alone = alone
        self.began: list[list[str]] = []
        self.running = 0
        self.most = 0
        self.errors: dict[str, BaseException] = {}
        self.deaf = False
        self.shut: set[str] = set()
        self.opened = asyncio.Event()

    def alone(self, event: StatusEvent) -> bool:
        return self._alone(event)

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        ids = [event.message_uuid for event in events]
        self.began.append(ids)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            while self.shut & set(ids):
                await self._wait()
        finally:
            self.running -= 1
        for one in ids:
            if one in self.errors:
                raise self.errors[one]

    async def _wait(self) -> None:
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            if not self.deaf:
                raise

    def open(self, *ids: str) -> None:
        self.shut -= set(ids)
        self.opened.set()
        self.opened = asyncio.Event()


def batch(*ids: str, attempt: int | None = None, source: Source = Source.LIVE) -> Call:
    """Entries of these messages, read together."""
    events = [event(body(message_uuid=one), attempt=attempt) for one in ids]
    return Call(source, [(one.encode(), []) for one in ids], events)


def ids(calls: Sequence[Call]) -> list[list[str]]:
    return [[event.message_uuid for event in call.events] for call in calls]


Make = Callable[..., Awaitable[Dispatcher]]


@pytest.fixture
async def make(server: Redis, shard: Shard) -> AsyncIterator[Make]:
    """Makes dispatchers, of which no call is left running."""
    made: list[tuple[Gates, Dispatcher]] = []
    await group(server, shard, 0)

    async def make(handler: Gates, limits: Limits, clock: Callable[[], float] = time.monotonic) -> Dispatcher:
        parts = make_parts(server, shard, handler, limits=limits, clock=clock, timing=replace(TIMING, late=1e9))
        await parts.heartbeat.announce()
        made.append((handler, parts.dispatcher))
        return parts.dispatcher

    yield make
    for handler, dispatcher in made:
        handler.deaf = False
        await dispatcher.cancel()
        handler.open(*handler.shut)


async def wants_nothing(dispatcher: Dispatcher) -> bool:
    return not dispatcher.can_take_more


async def until_idle(calls: Dispatcher) -> list[Call]:
    """All calls, once they have ended."""
    ended = []
    while calls.is_busy:
        await calls.step()
        ended += calls.take()
    return ended


async def test_events_that_want_it_have_calls_of_their_own(make: Make) -> None:
    """The others of a batch are handed over in one list, in their order."""
    handler = Gates(alone=lambda event: event.message_uuid in "be")
    calls = await make(handler, Limits())
    calls.put(batch(*"abcdef"))
    ended = await until_idle(calls)
    assert handler.began == [["a", "c", "d", "f"], ["b"], ["e"]]
    assert [[entry_id.decode() for entry_id, _ in call.entries] for call in ended] == handler.began


async def test_no_more_calls_run_than_allowed(make: Make) -> None:
    """However many events there are, and all of them are handled."""
    handler = Gates()
    calls = await make(handler, Limits(concurrency=3))
    calls.put(batch(*(str(n) for n in range(20))))
    ended = await until_idle(calls)
    assert handler.most == 3
    assert sorted(int(one) for (one,) in ids(ended)) == list(range(20))


async def test_calls_that_never_wait_leave_the_loop_to_others(make: Make) -> None:
    """Another task runs between calls that take the processor's time and never wait."""

    class Busy(Gates):
        async def handle(self, events: Sequence[StatusEvent]) -> None:
            self.began.append([event.message_uuid for event in events])
            time.sleep(0.001)  # noqa: ASYNC251 - it does not wait for anything

    handler = Busy()
    calls = await make(handler, Limits(concurrency=2))
    calls.put(batch(*map(str, range(20))))
    handling = asyncio.create_task(until_idle(calls))

    turns = set()
    while not handling.done():
        await asyncio.sleep(0)
        turns.add(len(handler.began))

    assert len(await handling) == 20
    assert len(turns) >= 10


async def test_a_slow_event_holds_up_no_other(make: Make) -> None:
    """The rest of its batch and the next one are handled meanwhile, in the places that are left."""
    handler = Gates()
    calls = await make(handler, Limits(concurrency=2))
    handler.shut = {"slow"}
    calls.put(batch("a", "slow", "b"))
    ended: list[Call] = []
    while len(ended) < 2:
        await calls.step()
        ended += calls.take()
    assert calls.can_take_more
    calls.put(batch("c", "d"))
    while len(ended) < 4:
        await calls.step()
        ended += calls.take()
    assert ids(ended) == [["a"], ["b"], ["c"], ["d"]]
    handler.open("slow")
    assert ids(await until_idle(calls)) == [["slow"]]


async def test_a_step_ends_when_something_else_can_be_begun(make: Make) -> None:
    """With room left it returns as soon as what it was told to look at is done; without room it does not look."""
    handler = Gates()
    read = asyncio.get_running_loop().create_future()
    read.set_result(None)
    calls = await make(handler, Limits(concurrency=2))
    handler.shut = {"a", "b"}
    calls.put(batch("a"))
    await calls.step(read)
    calls.put(batch("b"))
    stepping = asyncio.create_task(calls.step(read))
    await until(lambda: wants_nothing(calls))
    assert not stepping.done()
    handler.open("b")
    await stepping
    assert ids(calls.take()) == [["b"]]


async def test_while_its_target_is_away_nothing_begins(make: Make) -> None:
    """What met the absence and what has not begun stay queued; after some time one call goes ahead."""
    handler, now = Gates(), [100.0]
    calls = await make(handler, Limits(concurrency=2), lambda: now[0])
    handler.errors = {str(n): Unavailable() for n in range(10)}
    calls.put(batch(*(str(n) for n in range(10))))
    await calls.step()
    assert calls.take() == []
    began = len(handler.began)
    assert began <= 3
    await calls.step()
    assert len(handler.began) == began
    now[0] += TIMING.first_away
    await calls.step()
    assert len(handler.began) == began + 1
    handler.errors.clear()
    now[0] += 2 * TIMING.first_away
    ended = await until_idle(calls)
    assert sorted(ids(ended)) == [[str(n)] for n in range(10)]
    assert all(call.error is None for call in ended)


async def test_a_late_worker_begins_no_call(server: Redis, shard: Shard) -> None:
    """Others may have handled by now what it has in flight."""
    handler, now = Gates(), [100.0]
    await group(server, shard, 0)
    parts = make_parts(server, shard, handler, limits=Limits(concurrency=4), clock=lambda: now[0])
    await parts.heartbeat.announce()
    handler.shut = set("0123")
    parts.dispatcher.put(batch(*(str(n) for n in range(9))))
    parts.dispatcher._start_calls()  # noqa: SLF001 - without a step, which ends with the calls
    await until(lambda: began(handler, 4))
    now[0] += TIMING.late + 1
    handler.open(*"0123")
    await parts.dispatcher.step()
    await parts.dispatcher.step()
    assert len(handler.began) == 4
    await parts.dispatcher.cancel()


async def began(handler: Gates, calls: int) -> bool:
    return len(handler.began) >= calls


@pytest.mark.parametrize("spoiled", range(7))
async def test_a_list_is_divided_until_the_event_at_fault_is_alone(make: Make, spoiled: int) -> None:
    """All others are handled, each once; the one has the error's cause."""
    handler = Gates(alone=lambda _event: False)
    calls = await make(handler, Limits())
    divide = Divide()
    divide.__cause__ = cause = ValueError()
    handler.errors = {str(spoiled): divide}
    calls.put(batch(*(str(n) for n in range(7))))
    ended = await until_idle(calls)
    assert sorted((one, call.error is cause) for call in ended for one in ids([call])[0]) == [
        (str(n), n == spoiled) for n in range(7)
    ]
    assert len(handler.began) <= 7


async def test_whatever_a_handler_raises_is_its_events_failure(make: Make) -> None:
    """Even what would end a task or a process, save what comes from here."""
    handler = Gates()
    calls = await make(handler, Limits(concurrency=2))
    handler.errors = {"a": ValueError(), "b": SystemExit(), "c": asyncio.CancelledError()}
    calls.put(batch(*"abcd"))
    ended = await until_idle(calls)
    assert {one: call.error for call in ended for one in ids([call])[0]} == handler.errors | {"d": None}


@pytest.mark.parametrize("deaf", [False, True])
async def test_what_is_dropped_never_ends(make: Make, deaf: bool) -> None:
    """Neither what was queued, nor what had ended, nor what ran, though it takes its cancellation for nothing."""
    handler = Gates()
    calls = await make(handler, Limits(concurrency=2))
    handler.shut = {"slow"}
    handler.deaf = deaf
    calls.put(batch("a", "slow"))
    await calls.step()
    calls.put(batch("b"))
    await calls.cancel()
    calls.put(batch("c"))
    assert ids(await until_idle(calls)) == [["c"]]
    handler.open("slow")
    calls.put(batch("d", "e"))
    assert ids(await until_idle(calls)) == [["d"], ["e"]]
    assert handler.began == [["a"], ["slow"], ["c"], ["d"], ["e"]]


async def test_a_call_hangs_when_it_goes_on_after_its_time(make: Make) -> None:
    """Its time, and some for it to be cancelled in: by then the handler should have ended it."""
    handler, now = Gates(), [100.0]
    read = asyncio.get_running_loop().create_future()
    read.set_result(None)
    calls = await make(handler, Limits(concurrency=2, timeout_seconds=10), lambda: now[0])
    handler.shut = {"a"}
    calls.put(batch("a"))
    await calls.step(read)
    now[0] += 10 + CANCEL_SECONDS
    hang = [calls.hangs]
    now[0] += 0.1
    hang.append(calls.hangs)
    handler.open("a")
    await until_idle(calls)
    hang.append(calls.hangs)
    assert hang == [False, True, False]
