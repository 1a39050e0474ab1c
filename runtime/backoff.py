"""Waiting longer and longer, with jitter, for something that is away."""

import asyncio
import random


class Backoff:
    """Waits between half and the whole of a delay that doubles from ``first`` to ``longest`` seconds."""

    def __init__(self, first: float = 0.1, longest: float = 10.0) -> None:
        self._first = first
        self._longest = longest
        self._delay = first

    async def wait(self, stop: asyncio.Event | None = None) -> None:
        """Wait for the next delay, or until ``stop``."""
        delay, self._delay = self._delay, min(self._delay * 2, self._longest)
        stopped = asyncio.ensure_future((stop or asyncio.Event()).wait())
        await asyncio.wait([stopped], timeout=delay * random.uniform(0.5, 1))  # noqa: S311 - jitter
        stopped.cancel()

    def reset(self) -> None:
        """Begin at the first delay again."""
        self._delay = self._first
