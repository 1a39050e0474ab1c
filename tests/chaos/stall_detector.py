"""Detects stalls of this machine: a virtual machine may pause, and times measured during a pause mean little."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

BEAT_SECONDS = 0.5
LATE_SECONDS = 2.0


class StallDetector:
    """The longest stall; made by `detect_stalls`."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
        """The longest time in which nothing ran; 0 below LATE_SECONDS."""

    async def beat(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)
            late = time.monotonic() - began - BEAT_SECONDS
            if late > max(LATE_SECONDS, self.longest_seconds):
                self.longest_seconds = late


@asynccontextmanager
async def detect_stalls() -> AsyncIterator[StallDetector]:
    """Watch for stalls during the block."""
    stall_detector = StallDetector()
    beating = asyncio.create_task(stall_detector.beat())
    try:
        yield stall_detector
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
