"""Looks at the server while entries go to it, so that they no longer do when they should not."""

import asyncio
import time
from contextlib import suppress

from redis.exceptions import RedisError

from ingest.append.redis_writer import Way
from ingest.append.server_checks import Fitness, Unfit
from ingest.spool.queue import Spool
from runtime.metrics import SPOOL_OLDEST

LOOK_SECONDS = 1.0
DURABILITY_SECONDS = 60.0


async def watch(way: Way, fitness: Fitness, spool: Spool) -> None:
    """Look at the memory every second, at the settings every minute; until cancelled."""
    settings_due = time.monotonic() + DURABILITY_SECONDS
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        oldest_ms = spool.held.oldest_ms
        SPOOL_OLDEST.set(0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000))
        if not way.is_open:
            continue
        with suppress(RedisError, OSError):  # what is appended tells whether Redis is away
            try:
                await fitness.check_memory()
                if time.monotonic() >= settings_due:
                    await fitness.check_durability()
                    settings_due = time.monotonic() + DURABILITY_SECONDS
            except Unfit as exc:
                way.fail(exc)
