"""Waiting for a condition, with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 60.0
"""Longer than any condition needs on a busy machine: only a test that fails waits for so long."""
LEAST_PAUSE, MOST_PAUSE = 0.01, 0.1  # seconds


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Return as soon as the condition holds; fail after the deadline.

    The pause between two looks is a twentieth of the time waited so far: many looks in a long wait would slow down the
    processes of the test.
    """
    started = time.monotonic()
    while not await condition():
        waited = time.monotonic() - started
        assert waited < seconds, "the condition did not come true in time"
        await asyncio.sleep(min(max(LEAST_PAUSE, waited / 20), MOST_PAUSE))
