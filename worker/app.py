"""The worker process: a consumer for each handler and shard, and the order in which its parts start and stop."""

import asyncio
from typing import TYPE_CHECKING

import structlog

from runtime.children.child import Child, open_admin
from runtime.metrics import PROCESS
from runtime.tracing.process import open_tracing
from stream.redis.client import client, redact_url
from stream.redis.limited_client import REPLY_SECONDS
from stream.shard_watch import watch_shards
from worker.consumer.fetcher import BLOCK_MS
from worker.handler_loader import load_handlers
from worker.replay.scheduler import run_replays
from worker.retention.cleaner import run_cleaner
from worker.retention.trimmer import run_trimmer
from worker.settings import WorkerSettings
from worker.timing import TIMING, Timing
from worker.wiring import make_consumers

if TYPE_CHECKING:
    from worker.consumer.consumer_set import ConsumerSet

log = structlog.get_logger("worker")


async def serve(
    settings: WorkerSettings, stop: asyncio.Event, child: Child | None = None, timing: Timing = TIMING
) -> None:
    """Consume until ``stop``, then finish the running calls and return the other entries to their groups.

    `/live` and `/metrics` are served before the handlers are opened, because opening may take long. A ``child`` has no
    admin port.
    """
    PROCESS.labels("worker").set(1)
    server = client(settings.redis_url)
    reading = client(settings.redis_url, reply_seconds=BLOCK_MS / 1000 + REPLY_SECONDS)
    consumers: ConsumerSet | None = None

    def not_ready_reason() -> str | None:
        if consumers is None:
            return "the worker has not opened its handlers yet"
        return consumers.not_ready_reason

    try:
        async with (
            open_admin(
                settings.admin_host, settings.admin_port, not_ready_reason, settings.report, child
            ) as admin_port,
            open_tracing(settings.tracing, "ackstream-worker") as tracing,
            load_handlers(settings, tracing) as handlers,
            watch_shards(server, settings, stop) as watch,
            run_trimmer(settings, watch, stop),
            run_cleaner(settings, settings.store_url, watch, stop),
            run_replays(settings, handlers, watch, stop),
        ):
            groups, redis = ",".join(handlers), redact_url(settings.redis_url)
            log.info("worker.started", groups=groups, admin_port=admin_port, redis=redis)
            consumers = make_consumers((server, reading), settings, handlers, watch, stop, timing)
            await consumers.run(watch, stop, settings.grace_seconds)
    finally:
        await reading.aclose()
        await server.aclose()
    log.info("worker.stopped")
