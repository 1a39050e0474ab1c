"""Counts the entries that the trimmer reports as missing."""

import asyncio

from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.support.streams.retention import DAY_MS
from worker.retention.policy import RetentionPolicy
from worker.retention.trimmer import Trimmer

NOTHING = RetentionPolicy(36_500 * DAY_MS, 1024**4, together=False)
"""Trims nothing."""


async def count_missing(trimmer: Trimmer) -> int:
    """Return the number of entries that one run of the trimmer reports as missing."""
    with capture_logs() as logs:
        await trimmer.run_once(asyncio.Event())
    return sum(line["entries"] for line in logs if line["event"] == "retention.missing")


async def release(server: Redis, lease: str) -> None:
    """Let another trimmer take the lease at once."""
    await server.pexpire(lease, 0)
