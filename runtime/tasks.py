"""Waiting for an event or for a target that is away, and ending tasks for certain."""

import asyncio
import random
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

AGAIN_SECONDS = 0.2


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, after ``seconds`` at the latest."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class Backoff:
    """Waits between half and the whole of a delay that doubles from ``first`` to ``longest`` seconds."""

    def __init__(self, first: float = 0.1, longest: float = 10.0) -> None:
        self._first = first
        self._longest = longest
        self._delay = first

    async def wait(self, stop: asyncio.Event | None = None) -> None:
        """Wait for the next delay, or until ``stop``."""
        delay, self._delay = self._delay, min(self._delay * 2, self._longest)
        await wait_for(stop or asyncio.Event(), delay * random.uniform(0.5, 1))  # noqa: S311 - jitter

    def reset(self) -> None:
        """Start at the first delay again."""
        self._delay = self._first


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks, and return when they are done; what they raise is left in them.

    A library or a user's code may lose one cancellation (``asyncio.wait_for`` does before Python 3.12): the task would
    go on for ever, and the process with it. So it is cancelled again.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)
