"""The cleaner: removes records that are older than the ages of the settings, from all places but the stream.

Every worker runs it. A lease for each kind lets one worker at a time remove records of this kind, in steps that delay
nobody: some entries in Redis, some messages in the tables, or files of the archive. Workers with a ``store`` clean the
tables, and workers with the folder clean the archive.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from redis.asyncio import Redis

from runtime.log_throttle import LogThrottle
from runtime.tasks import cancel_and_wait, wait_for
from stream.keys import Shard
from stream.redis.client import client, describe_error
from stream.shard_watch import ShardWatch
from worker.group.lease import Lease
from worker.metrics import CLEANED
from worker.retention.old_records import Step, open_steps
from worker.retention.settings import RetentionSettings

log = structlog.get_logger("cleaner")

POLL_SECONDS = 60.0
LEASE_MS = 60_000
PAUSE_SECONDS = 0.05
STOP_SECONDS = 0.5
REPORT_SECONDS = 600.0


class Cleaner:
    """Removes old records of some kinds of one shard."""

    def __init__(self, server: Redis, shard: Shard, steps: Mapping[str, Step]) -> None:
        self._steps = {kind: (step, Lease(server, shard.cleaning(kind), LEASE_MS)) for kind, step in steps.items()}
        self._throttle = LogThrottle(1, seconds=REPORT_SECONDS)

    async def run(self, stop: asyncio.Event) -> None:
        """Clean at regular intervals until ``stop``. An error is logged, and ends only this turn of its kind."""
        while not stop.is_set():
            for kind in self._steps:
                try:
                    await self.clean(kind, stop)
                except Exception as exc:  # noqa: BLE001 - each driver has errors of its own; the next turn tries again
                    if self._throttle.admit(kind) is not None:
                        log.warning("cleaner.failed", kind=kind, error=describe_error(exc), what="it is tried again")
            await wait_for(stop, POLL_SECONDS)

    async def clean(self, kind: str, stop: asyncio.Event) -> int:
        """Remove all old records of a kind, unless another worker does; return their number."""
        step, lease = self._steps[kind]
        total = 0
        while not stop.is_set() and await lease.take():
            removed = await step()
            CLEANED.labels(kind).inc(removed)
            total += removed
            if not removed:
                await lease.leave()
                break
            await asyncio.sleep(PAUSE_SECONDS)
        if total:
            log.info("cleaner.removed", kind=kind, records=total)
        return total


@asynccontextmanager
async def run_cleaner(
    settings: RetentionSettings, database_url: str | None, watch: ShardWatch, stop: asyncio.Event
) -> AsyncIterator[None]:
    """Run a cleaner for each shard if the settings have an age; they end after ``stop``.

    ``database_url`` is None for a worker that writes no tables.
    """
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(client(settings.redis_url))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        cleaners: list[asyncio.Task[None]] = []

        def start(shard: Shard) -> None:
            steps = open_steps(server, shard, settings, database_url, stack)
            if steps:
                cleaners.append(tasks.create_task(Cleaner(server, shard, steps).run(stop)))

        with watch.start_each(start):
            yield
        if cleaners:
            await asyncio.wait(cleaners, timeout=STOP_SECONDS)
            await cancel_and_wait(cleaners)
