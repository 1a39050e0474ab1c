import asyncio
from contextlib import suppress

from runtime.tasks import cancel_and_wait


async def test_a_task_that_loses_a_cancellation_ends_all_the_same() -> None:
    """The task is cancelled again until it has ended; other tasks, and those that have ended before, do no harm."""

    async def deaf() -> None:
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def done() -> None:
        return

    tasks = [asyncio.create_task(deaf()), asyncio.create_task(asyncio.Event().wait()), asyncio.create_task(done())]
    await asyncio.wait(tasks, timeout=0.01)
    async with asyncio.timeout(60):
        await cancel_and_wait(tasks)
    assert [task.cancelled() for task in tasks] == [True, True, False]
