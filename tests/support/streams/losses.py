"""How many entries the trimmer reports as missing."""

import asyncio

from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.support.streams.retention import DAY_MS
from worker.retention.policy import RetentionPolicy
from worker.retention.trimmer import Trimmer

NOTHING = RetentionPolicy(36_500 * DAY_MS, 1024**4, together=False)
"""Trims nothing."""


async def missing(trimmer: Trimmer) -> int:
    """How many entries one look reports."""
    with capture_logs() as logs:
        await trimmer.run_once(asyncio.Event())
    return sum(line["entries"] for line in logs if line["event"] == "retention.missing")


async def release(server: Redis, lease: str) -> None:
    """Let another trimmer take the lease at once."""
    await server.pexpire(lease, 0)
