import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.events import body, event
from tests.waiting import until
from worker.consumer.fetch_plan import Source
from worker.dispatch.call import Call, Limits
from worker.dispatch.dispatcher import CANCEL_SECONDS, Calls
from worker.events.event import StatusEvent
from worker.handlers.errors import Divide, Unavailable


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


def batch(*ids: str, attempt: int | None = None) -> Call:
    """Entries of these messages, read together."""
    events = [event(body(message_uuid=one), attempt=attempt) for one in ids]
    return Call(Source.LIVE, [(one.encode(), []) for one in ids], events)


def ids(calls: Sequence[Call]) -> list[list[str]]:
    return [[event.message_uuid for event in call.events] for call in calls]


@asynccontextmanager
async def made(handler: Gates, limits: Limits, clock: Callable[[], float] | None = None) -> AsyncIterator[Calls]:
    """Calls, of which none is left running; a second goes by each time that they look at the clock."""
    calls = Calls(handler, limits, clock or map(float, itertools.count()).__next__)
    try:
        yield calls
    finally:
        handler.deaf = False
        await calls.cancel()
        handler.open(*handler.shut)


async def has_no_room(calls: Calls) -> bool:
    return not calls.room


async def until_idle(calls: Calls) -> list[Call]:
    """All calls, once they have ended."""
    ended = []
    while calls.busy:
        await calls.step()
        ended += calls.take()
    return ended


async def test_events_that_want_it_have_calls_of_their_own() -> None:
    """The others of a batch are handed over in one list, in their order."""
    handler = Gates(alone=lambda event: event.message_uuid in "be")
    async with made(handler, Limits()) as calls:
        calls.put(batch(*"abcdef"))
        ended = await until_idle(calls)
    assert handler.began == [["a", "c", "d", "f"], ["b"], ["e"]]
    assert [[entry_id.decode() for entry_id, _ in call.entries] for call in ended] == handler.began


async def test_no_more_calls_run_than_allowed() -> None:
    """However many events there are, and all of them are handled."""
    handler = Gates()
    async with made(handler, Limits(concurrency=3)) as calls:
        calls.put(batch(*(str(n) for n in range(20))))
        ended = await until_idle(calls)
    assert handler.most == 3
    assert sorted(int(one) for (one,) in ids(ended)) == list(range(20))


async def test_a_slow_event_holds_up_no_other() -> None:
    """The rest of its batch and the next one are handled meanwhile, in the places that are left."""
    handler = Gates()
    async with made(handler, Limits(concurrency=2)) as calls:
        handler.shut = {"slow"}
        calls.put(batch("a", "slow", "b"))
        ended: list[Call] = []
        while len(ended) < 2:
            await calls.step()
            ended += calls.take()
        assert calls.room
        calls.put(batch("c", "d"))
        while len(ended) < 4:
            await calls.step()
            ended += calls.take()
        assert ids(ended) == [["a"], ["b"], ["c"], ["d"]]
        handler.open("slow")
        assert ids(await until_idle(calls)) == [["slow"]]


async def test_a_step_ends_when_something_else_can_be_begun() -> None:
    """With room left it returns as soon as what it was told to look at is done; without room it does not look."""
    handler = Gates()
    read = asyncio.get_running_loop().create_future()
    read.set_result(None)
    async with made(handler, Limits(concurrency=2)) as calls:
        handler.shut = {"a", "b"}
        calls.put(batch("a"))
        await calls.step(read)
        calls.put(batch("b"))
        stepping = asyncio.create_task(calls.step(read))
        await until(lambda: has_no_room(calls))
        assert not stepping.done()
        handler.open("b")
        await stepping
        assert ids(calls.take()) == [["b"]]


async def test_while_its_target_is_away_nothing_begins() -> None:
    """What met the absence and what has not begun stay queued; told to resume, one call goes ahead."""
    handler = Gates()
    async with made(handler, Limits(concurrency=2)) as calls:
        handler.errors = {str(n): Unavailable() for n in range(10)}
        calls.put(batch(*(str(n) for n in range(10))))
        await calls.step()
        assert isinstance(calls.away, Unavailable)
        assert calls.take() == []
        began = len(handler.began)
        assert began <= 3
        calls.resume()
        await calls.step()
        assert len(handler.began) == began + 1
        handler.errors.clear()
        calls.resume()
        ended = await until_idle(calls)
    assert sorted(ids(ended)) == [[str(n)] for n in range(10)]
    assert all(call.error is None for call in ended)


@pytest.mark.parametrize("spoiled", range(7))
async def test_a_list_is_divided_until_the_event_at_fault_is_alone(spoiled: int) -> None:
    """All others are handled, each once; the one has the error's cause."""
    handler = Gates(alone=lambda _event: False)
    async with made(handler, Limits()) as calls:
        divide = Divide()
        divide.__cause__ = cause = ValueError()
        handler.errors = {str(spoiled): divide}
        calls.put(batch(*(str(n) for n in range(7))))
        ended = await until_idle(calls)
    assert sorted((one, call.error is cause) for call in ended for one in ids([call])[0]) == [
        (str(n), n == spoiled) for n in range(7)
    ]
    assert len(handler.began) <= 7


async def test_whatever_a_handler_raises_is_its_events_failure() -> None:
    """Even what would end a task or a process, save what comes from here."""
    handler = Gates()
    async with made(handler, Limits(concurrency=2)) as calls:
        handler.errors = {"a": ValueError(), "b": SystemExit(), "c": asyncio.CancelledError()}
        calls.put(batch(*"abcd"))
        ended = await until_idle(calls)
    assert {one: call.error for call in ended for one in ids([call])[0]} == handler.errors | {"d": None}


@pytest.mark.parametrize("deaf", [False, True])
async def test_what_is_dropped_never_ends(deaf: bool) -> None:
    """Neither what was queued, nor what had ended, nor what ran, though it takes its cancellation for nothing."""
    handler = Gates()
    async with made(handler, Limits(concurrency=2)) as calls:
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


async def test_a_call_hangs_when_it_goes_on_after_its_time() -> None:
    """Its time, and some for it to be cancelled in: by then the handler should have ended it."""
    handler, now = Gates(), [100.0]
    read = asyncio.get_running_loop().create_future()
    read.set_result(None)
    async with made(handler, Limits(concurrency=2, timeout_seconds=10), lambda: now[0]) as calls:
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


async def test_what_is_handled_alone_is_marked_and_has_no_company() -> None:
    """It waits for the end of what runs, and what is queued waits for it; each is marked before its handler runs."""
    handler, marked = Gates(), list[str]()

    async def mark(_source: Source, entry_id: bytes) -> None:
        marked.append(entry_id.decode())
        await asyncio.sleep(0)

    calls = Calls(handler, Limits(concurrency=4), map(float, itertools.count()).__next__, mark)
    handler.shut = {"a"}
    calls.put(batch("a", "b", "c"))
    there_is_more = asyncio.get_running_loop().create_future()
    there_is_more.set_result(None)
    await calls.step(there_is_more)
    for one in "xy":
        call = batch(one)
        call.solo = True
        calls.put(call)
    calls.put(batch("d", "e"))
    stepping = asyncio.create_task(calls.step())
    await asyncio.sleep(0)
    handler.open("a")
    await stepping
    await until_idle(calls)
    order = [one for (one,) in handler.began]
    assert (order[:3], order[3:5], sorted(order[5:]), marked) == (list("abc"), ["x", "y"], ["d", "e"], ["x", "y"])


async def test_a_failure_of_redis_at_the_mark_is_told() -> None:
    """Nothing is handled without its mark."""
    handler = Gates()

    async def mark(_source: Source, _entry_id: bytes) -> None:
        raise ConnectionError

    calls = Calls(handler, Limits(), lambda: 0.0, mark)
    call = batch("x")
    call.solo = True
    calls.put(call)
    await calls.step()
    with pytest.raises(ConnectionError):
        calls.take()
    assert handler.began == []
