"""Whether this machine runs: virtual ones stand still now and then, and what is measured meanwhile means little."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

BEAT_SECONDS = 0.5
LATE_SECONDS = 2.0


class Pulse:
    """Made by ``felt``."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
        """For how long, at most, nothing ran; 0 if that was not worth mentioning."""

    async def beat(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)
            late = time.monotonic() - began - BEAT_SECONDS
            if late > max(LATE_SECONDS, self.longest_seconds):
                self.longest_seconds = late


@asynccontextmanager
async def felt() -> AsyncIterator[Pulse]:
    """Feel it for the length of the block."""
    pulse = Pulse()
    beating = asyncio.create_task(pulse.beat())
    try:
        yield pulse
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
