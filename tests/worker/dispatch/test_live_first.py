"""Live calls start before retries and replays."""

import asyncio

from tests.support.workers.gated_handler import DispatcherFactory, GatedHandler, make_call, run_until_idle
from worker.dispatch.call import Limits
from worker.sources import FEW, Source


async def test_live_calls_go_first(make: DispatcherFactory) -> None:
    """While live calls wait, one call in four is a retry or replay; a new live call starts next."""
    handler = GatedHandler()
    calls = await make(handler, Limits())
    calls.put(make_call(*(f"retry-{n}" for n in range(50)), attempt=1, source=Source.RETRY))
    calls.put(make_call(*(f"replay-{n}" for n in range(50)), source=Source.REPLAY))
    handler.shut = {"retry-0"}
    read = asyncio.get_running_loop().create_future()
    read.set_result(None)
    await calls.step(read)
    assert calls.can_take_more
    calls.put(make_call(*(f"live-{n}" for n in range(8))))
    handler.open("retry-0")
    await run_until_idle(calls)
    order = [name.partition("-")[0] for (name,) in handler.began]
    assert order[:12] == ["retry", *["live"] * 3, "retry", *["live"] * 3, "retry", *["live"] * 2, "retry"]


async def test_few_retries_and_replays_are_read_ahead(make: DispatcherFactory) -> None:
    """With quick calls the dispatcher asks for a few copies; with slow calls, for about as many as run at once."""
    handler, now = GatedHandler(), [0.0]
    calls = await make(handler, Limits(), lambda: now[0])
    assert (calls.count_wanted_copies(), calls.seconds_until_copies_due()) == (FEW, 1.0)
    for number in range(30):
        handler.shut = {f"a-{number}"}
        calls.put(make_call(f"a-{number}", attempt=1, source=Source.RETRY))
        read = asyncio.get_running_loop().create_future()
        read.set_result(None)
        await calls.step(read)
        now[0] += 0.2
        handler.open(f"a-{number}")
        await run_until_idle(calls)
    assert 9 <= calls.count_wanted_copies() <= 11
    calls.put(make_call(*"abcdef", attempt=1, source=Source.REPLAY))
    assert calls.count_wanted_copies() == 0
    assert 0.5 < calls.seconds_until_copies_due() < 0.7
