"""Waits with a limit, back-off, and reliable cancellation of tasks."""

import asyncio
import random
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

RECANCEL_SECONDS = 0.2


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after ``seconds``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class Backoff:
    """Exponential back-off with jitter: each wait is 50 to 100 % of a delay that doubles up to ``longest`` seconds."""

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
    """Cancel the tasks and return when they are done. Their exceptions stay in the tasks.

    A library or a handler may lose a cancellation (``asyncio.wait_for`` does before Python 3.12), and its task would
    run for ever. So tasks are cancelled again and again until they end.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=RECANCEL_SECONDS)
