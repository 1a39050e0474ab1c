"""The time limit of handler calls, with one timer for all calls.

``asyncio.timeout`` sets a timer and looks up the loop three times for each call. That took 4 of the 10 µs of a call to
a function that does nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from worker.handlers.errors import TimedOut


class Deadlines:
    """Cancels each call that takes longer than ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._times: dict[asyncio.Task[Any], float] = {}  # earliest first, because all limits are equal
        self._timer: asyncio.TimerHandle | None = None

    async def call(self, function: Callable[[Any], Awaitable[None]], argument: object) -> None:
        """Call the function. Raises TimedOut, or the exception of the function."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        self._start(task)
        try:
            await function(argument)
        except BaseException as exc:
            if self._end(task) and isinstance(exc, (asyncio.CancelledError, TimeoutError)):
                raise TimedOut(self._seconds) from None
            raise
        self._end(task)

    def _start(self, task: asyncio.Task[Any]) -> None:
        loop = task.get_loop()
        self._times[task] = time = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(time, self._expire, loop)

    def _end(self, task: asyncio.Task[Any]) -> bool:
        """End the time limit of a call. Return whether it had expired and was the only reason to cancel the task."""
        return self._times.pop(task, None) is None and not task.uncancel()

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel the calls whose time limit has expired, and set the timer for the next call."""
        self._timer = None
        for task, time in list(self._times.items()):
            if time > loop.time():
                self._timer = loop.call_at(time, self._expire, loop)
                return
            del self._times[task]
            task.cancel()
