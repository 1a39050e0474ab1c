import asyncio
import time
from collections.abc import Sequence

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


async def test_events_that_want_it_have_calls_of_their_own(make: DispatcherFactory) -> None:
    """The others of a batch are handed over in one list, in their order."""
    handler = GatedHandler(alone=lambda event: event.message_uuid in "be")
    calls = await make(handler, Limits())
    calls.put(make_call(*"abcdef"))
    ended = await run_until_idle(calls)
    assert handler.began == [["a", "c", "d", "f"], ["b"], ["e"]]
    assert [[entry_id.decode() for entry_id, _ in call.entries] for call in ended] == handler.began


async def test_no_more_calls_run_than_allowed(make: DispatcherFactory) -> None:
    """However many events there are, and all of them are handled."""
    handler = GatedHandler()
    calls = await make(handler, Limits(concurrency=3))
    calls.put(make_call(*(str(n) for n in range(20))))
    ended = await run_until_idle(calls)
    assert handler.most == 3
    assert sorted(int(one) for (one,) in ids(ended)) == list(range(20))


async def test_calls_that_never_wait_leave_the_loop_to_others(make: DispatcherFactory) -> None:
    """Another task runs between calls that take the processor's time and never wait."""

    class Busy(GatedHandler):
        async def handle(self, events: Sequence[StatusEvent]) -> None:
            self.began.append([event.message_uuid for event in events])
            time.sleep(0.001)  # noqa: ASYNC251 - it does not wait for anything

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
    """The rest of its batch and the next one are handled meanwhile, in the places that are left."""
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


async def test_a_step_ends_when_something_else_can_be_begun(make: DispatcherFactory) -> None:
    """With room left it returns as soon as what it was told to look at is done; without room it does not look."""
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


async def test_while_its_target_is_away_nothing_begins(make: DispatcherFactory) -> None:
    """What met the absence and what has not begun stay queued; after some time one call goes ahead."""
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


async def test_a_late_worker_begins_no_call(server: Redis, shard: Shard) -> None:
    """Others may have handled by now what it has in flight."""
    handler, now = GatedHandler(), [100.0]
    await make_group(server, shard, 0)
    parts = make_parts(server, shard, handler, limits=Limits(concurrency=4), clock=lambda: now[0])
    await parts.heartbeat.announce()
    handler.shut = set("0123")
    parts.dispatcher.put(make_call(*(str(n) for n in range(9))))
    parts.dispatcher._start_calls()  # noqa: SLF001 - without a step, which ends with the calls
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
    """All others are handled, each once; the one has the error's cause."""
    handler = GatedHandler(alone=lambda _event: False)
    calls = await make(handler, Limits())
    divide = Divide()
    divide.__cause__ = cause = ValueError()
    handler.errors = {str(spoiled): divide}
    calls.put(make_call(*(str(n) for n in range(7))))
    ended = await run_until_idle(calls)
    assert sorted((one, call.error is cause) for call in ended for one in ids([call])[0]) == [
        (str(n), n == spoiled) for n in range(7)
    ]
    assert len(handler.began) <= 7


async def test_whatever_a_handler_raises_is_its_events_failure(make: DispatcherFactory) -> None:
    """Even what would end a task or a process, save what comes from here."""
    handler = GatedHandler()
    calls = await make(handler, Limits(concurrency=2))
    handler.errors = {"a": ValueError(), "b": SystemExit(), "c": asyncio.CancelledError()}
    calls.put(make_call(*"abcd"))
    ended = await run_until_idle(calls)
    assert {one: call.error for call in ended for one in ids([call])[0]} == handler.errors | {"d": None}


@pytest.mark.parametrize("deaf", [False, True])
async def test_what_is_dropped_never_ends(make: DispatcherFactory, deaf: bool) -> None:
    """Neither what was queued, nor what had ended, nor what ran, though it takes its cancellation for nothing."""
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


async def test_a_call_hangs_when_it_goes_on_after_its_time(make: DispatcherFactory) -> None:
    """Its time, and some for it to be cancelled in: by then the handler should have ended it."""
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
