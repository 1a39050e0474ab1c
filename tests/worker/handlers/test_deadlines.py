"""The time limit of the calls of a function."""

import asyncio

import pytest

from worker.handlers.deadlines import Deadlines
from worker.handlers.errors import TimedOut

LIMIT_SECONDS = 0.05


async def wait_for_ever(_argument: object) -> None:
    """Wait without an end."""
    await asyncio.Event().wait()


async def test_each_call_of_many_ends_after_its_own_limit() -> None:
    """Calls that start one after the other share a timer, and each has its full time."""
    deadlines = Deadlines(LIMIT_SECONDS)
    loop = asyncio.get_running_loop()

    async def measure(delay: float) -> float:
        await asyncio.sleep(delay)
        start = loop.time()
        with pytest.raises(TimedOut):
            await deadlines.call(wait_for_ever, None)
        return loop.time() - start

    durations = await asyncio.gather(*[measure(place * LIMIT_SECONDS / 4) for place in range(12)])

    assert min(durations) >= LIMIT_SECONDS - 0.002  # the loop's clock counts milliseconds


async def test_a_call_that_ends_in_time_leaves_the_others_their_limit() -> None:
    """After a call has ended, its timer is set again for the next call."""
    deadlines = Deadlines(LIMIT_SECONDS)
    await deadlines.call(asyncio.sleep, 0)

    with pytest.raises(TimedOut):
        await deadlines.call(wait_for_ever, None)
    with pytest.raises(TimedOut):
        await deadlines.call(wait_for_ever, None)


async def test_a_function_may_end_after_its_limit_in_its_own_way() -> None:
    """A function that catches the cancellation and returns has succeeded."""
    deadlines = Deadlines(LIMIT_SECONDS)

    async def save_anyway(_argument: object) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    await deadlines.call(save_anyway, None)

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("error", [ValueError, TimeoutError, asyncio.CancelledError])
async def test_an_error_of_the_function_within_its_limit_is_its_own(error: type[BaseException]) -> None:
    """TimedOut is raised only for the limit."""

    async def fail(_argument: object) -> None:
        raise error

    with pytest.raises(error):
        await Deadlines(60).call(fail, None)


async def test_a_call_that_is_cancelled_from_outside_is_cancelled() -> None:
    """A stop of the worker raises CancelledError and not TimedOut."""
    task = asyncio.create_task(Deadlines(60).call(wait_for_ever, None))
    await asyncio.sleep(0)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
