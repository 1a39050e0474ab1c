import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.streams.pending import make_group
from tests.support.waiting import until
from tests.support.workers.gated_handler import DispatcherFactory, GatedHandler, make_call, run_until_idle
from tests.support.workers.parts import make_parts
from worker.dispatch.call import Call, Limits
from worker.dispatch.dispatcher import CANCEL_SECONDS, Dispatcher
from worker.events.event import StatusEvent
from worker.handlers.errors import Divide, Unavailable
from worker.timing import TIMING


def ids(calls: Sequence[Call]) -> list[list[str]]:
    return [[event.message_uuid for event in call.events] for call in calls]


async def wants_nothing(dispatcher: Dispatcher) -> bool:
    return not dispatcher.can_take_more


async def test_some_events_have_calls_of_their_own(make: DispatcherFactory) -> None:
    """The handler receives the other events of the batch in one list, in order."""
    handler = GatedHandler(alone=lambda event: event.message_uuid in "be")
    calls = await make(handler, Limits())
    calls.put(make_call(*"abcdef"))
    ended = await run_until_idle(calls)
    assert handler.began == [["a", "c", "d", "f"], ["b"], ["e"]]
    assert [[entry_id.decode() for entry_id, _ in call.entries] for call in ended] == handler.began


async def test_no_more_calls_run_than_allowed(make: DispatcherFactory) -> None:
    """The number of running calls stays at the limit, and every event is handled."""
    handler = GatedHandler()
    calls = await make(handler, Limits(concurrency=3))
    calls.put(make_call(*(str(n) for n in range(20))))
    ended = await run_until_idle(calls)
    assert handler.most == 3
    assert sorted(int(name) for (name,) in ids(ended)) == list(range(20))


async def test_calls_that_never_wait_leave_the_loop_to_others(make: DispatcherFactory) -> None:
    """Another task runs between calls that use the CPU and never wait."""

    class Busy(GatedHandler):
        async def handle(self, events: Sequence[StatusEvent]) -> None:
            self.began.append([event.message_uuid for event in events])
            time.sleep(0.001)  # noqa: ASYNC251 - it blocks on purpose

    handler = Busy()
    calls = await make(handler, Limits(concurrency=2))
    calls.put(make_call(*map(str, range(20))))
    handling = asyncio.create_task(run_until_idle(calls))

    turns = set()
    while not handling.done():
        await asyncio.sleep(0)
        turns.add(len(handler.began))

    assert len(await handling) == 20
    assert len(turns) >= 10


async def test_a_slow_event_holds_up_no_other(make: DispatcherFactory) -> None:
    """While one call is slow, the rest of its batch and the next batch are handled in the free places."""
    handler = GatedHandler()
    calls = await make(handler, Limits(concurrency=2))
    handler.shut = {"slow"}
    calls.put(make_call("a", "slow", "b"))
    ended: list[Call] = []
    while len(ended) < 2:
        await calls.step()
        ended += calls.take()
    assert calls.can_take_more
    calls.put(make_call("c", "d"))
    while len(ended) < 4:
        await calls.step()
        ended += calls.take()
    assert ids(ended) == [["a"], ["b"], ["c"], ["d"]]
    handler.open("slow")
    assert ids(await run_until_idle(calls)) == [["slow"]]


async def test_a_step_ends_when_more_can_be_taken(make: DispatcherFactory) -> None:
    """With free places, a step returns as soon as the awaited future is done; without, it ignores the future."""
    handler = GatedHandler()
    read = asyncio.get_running_loop().create_future()
    read.set_result(None)
    calls = await make(handler, Limits(concurrency=2))
    handler.shut = {"a", "b"}
    calls.put(make_call("a"))
    await calls.step(read)
    calls.put(make_call("b"))
    stepping = asyncio.create_task(calls.step(read))
    await until(lambda: wants_nothing(calls))
    assert not stepping.done()
    handler.open("b")
    await stepping
    assert ids(calls.take()) == [["b"]]


async def test_no_call_starts_while_the_target_is_unavailable(make: DispatcherFactory) -> None:
    """While the target is unavailable, failed and waiting calls stay queued; after a delay one call starts."""
    handler, now = GatedHandler(), [100.0]
    calls = await make(handler, Limits(concurrency=2), lambda: now[0])
    handler.errors = {str(n): Unavailable() for n in range(10)}
    calls.put(make_call(*(str(n) for n in range(10))))
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
    ended = await run_until_idle(calls)
    assert sorted(ids(ended)) == [[str(n)] for n in range(10)]
    assert all(call.error is None for call in ended)


async def test_a_late_worker_starts_no_call(server: Redis, shard: Shard) -> None:
    """A worker that missed its heartbeat starts no call, because others may have its entries."""
    handler, now = GatedHandler(), [100.0]
    await make_group(server, shard, 0)
    parts = make_parts(server, shard, handler, limits=Limits(concurrency=4), clock=lambda: now[0])
    await parts.heartbeat.announce()
    handler.shut = set("0123")
    parts.dispatcher.put(make_call(*(str(n) for n in range(9))))
    parts.dispatcher._start_calls()  # noqa: SLF001 - a step would wait for the calls
    await until(lambda: began(handler, 4))
    now[0] += TIMING.late + 1
    handler.open(*"0123")
    await parts.dispatcher.step()
    await parts.dispatcher.step()
    assert len(handler.began) == 4
    await parts.dispatcher.cancel()


async def began(handler: GatedHandler, calls: int) -> bool:
    return len(handler.began) >= calls


@pytest.mark.parametrize("spoiled", range(7))
async def test_a_list_is_divided_until_the_event_at_fault_is_alone(make: DispatcherFactory, spoiled: int) -> None:
    """All other events are handled once; the bad event gets the cause of the error."""
    handler = GatedHandler(alone=lambda _event: False)
    calls = await make(handler, Limits())
    divide = Divide()
    divide.__cause__ = cause = ValueError()
    handler.errors = {str(spoiled): divide}
    calls.put(make_call(*(str(n) for n in range(7))))
    ended = await run_until_idle(calls)
    assert sorted((name, call.error is cause) for call in ended for name in ids([call])[0]) == [
        (str(n), n == spoiled) for n in range(7)
    ]
    assert len(handler.began) <= 7


async def test_each_error_of_a_handler_fails_its_events(make: DispatcherFactory) -> None:
    """Errors that end a task or a process elsewhere fail the handler's events, and nothing else ends."""
    handler = GatedHandler()
    calls = await make(handler, Limits(concurrency=2))
    classes = (ValueError, SystemExit, asyncio.CancelledError, KeyboardInterrupt, BaseException)
    handler.errors = {name: kind() for name, kind in zip("abcde", classes, strict=True)}
    calls.put(make_call(*"abcdef"))
    ended = await run_until_idle(calls)
    assert {name: call.error for call in ended for name in ids([call])[0]} == handler.errors | {"f": None}


class CancelsItself(GatedHandler):
    """A handler that cancels its own task: at the next wait, after its end, or it catches the cancellation."""

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        (what,) = (event.message_uuid for event in events)
        task = asyncio.current_task()
        if what == "ok" or task is None:
            return
        task.cancel()
        if what == "waits":
            await asyncio.sleep(0)
        elif what == "caught":
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)


@pytest.mark.parametrize(("what", "fails"), [("waits", True), ("late", False), ("caught", False)])
async def test_a_handler_that_cancels_its_own_task_ends_no_other_call(
    make: DispatcherFactory, what: str, fails: bool
) -> None:
    """The call ends, with an error if the cancellation ended it, and the next calls of the task succeed."""
    calls = await make(CancelsItself(), Limits())
    calls.put(make_call(what, "ok", "ok"))
    ended = await run_until_idle(calls)
    assert [(*ids([call])[0], call.error is not None) for call in ended] == [
        (what, fails),
        ("ok", False),
        ("ok", False),
    ]


@pytest.mark.parametrize("deaf", [False, True])
async def test_a_dropped_call_is_never_returned(make: DispatcherFactory, deaf: bool) -> None:
    """After a drop no queued, ended or running call is returned, even if the call ignores its cancellation."""
    handler = GatedHandler()
    calls = await make(handler, Limits(concurrency=2))
    handler.shut = {"slow"}
    handler.deaf = deaf
    calls.put(make_call("a", "slow"))
    await calls.step()
    calls.put(make_call("b"))
    await calls.cancel()
    calls.put(make_call("c"))
    assert ids(await run_until_idle(calls)) == [["c"]]
    handler.open("slow")
    calls.put(make_call("d", "e"))
    assert ids(await run_until_idle(calls)) == [["d"], ["e"]]
    assert handler.began == [["a"], ["slow"], ["c"], ["d"], ["e"]]


async def test_a_call_that_outlives_its_timeout_hangs(make: DispatcherFactory) -> None:
    """A call hangs if it still runs after its timeout and the time for its cancellation."""
    handler, now = GatedHandler(), [100.0]
    read = asyncio.get_running_loop().create_future()
    read.set_result(None)
    calls = await make(handler, Limits(concurrency=2, timeout_seconds=10), lambda: now[0])
    handler.shut = {"a"}
    calls.put(make_call("a"))
    await calls.step(read)
    now[0] += 10 + CANCEL_SECONDS
    hang = [calls.hangs]
    now[0] += 0.1
    hang.append(calls.hangs)
    handler.open("a")
    await run_until_idle(calls)
    hang.append(calls.hangs)
    assert hang == [False, True, False]
