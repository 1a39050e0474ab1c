"""The processing side's process: one consumer for each handler, and what starts and stops in which order."""

import asyncio

import structlog
from redis.asyncio import Redis

from runtime import health
from stream.redis.client import REPLY_SECONDS, client, shown
from worker.consumer.consumer import Consumer, consume
from worker.consumer.fetcher import BLOCK_MS, Reader
from worker.consumer.processor import Processor
from worker.dispatch.dispatcher import Calls
from worker.dispatch.pause import Pause
from worker.group.consumer_group import Group
from worker.group.heartbeat import Liveness
from worker.handlers.loader import Opened, opened
from worker.replay.scheduler import replaying
from worker.retention.trimmer import trimming
from worker.settings import WorkerSettings
from worker.settle.dedup import Repeats
from worker.settle.delayed import Parked
from worker.settle.settler import Settler

log = structlog.get_logger("worker")


async def serve(settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Consume until ``stop``. Then: read no more, finish what is in hand, hand over the rest."""
    server = client(settings.redis_url)
    reading = client(settings.redis_url, reply_seconds=BLOCK_MS / 1000 + REPLY_SECONDS)
    try:
        async with (
            opened(settings, stop) as handlers,
            trimming(settings, stop),
            replaying(settings, handlers, stop),
        ):
            turn = asyncio.Lock()
            consumers = [_consumer(server, reading, settings, *named, turn, stop) for named in handlers.items()]

            def why_not() -> str | None:
                return next(
                    (consumer.why_not for consumer in consumers if consumer.why_not),
                    None,
                )

            async with health.serving(settings.admin_host, settings.admin_port, why_not) as admin_port:
                groups = ",".join(handlers)
                log.info(
                    "worker.started",
                    groups=groups,
                    admin_port=admin_port,
                    redis=shown(settings.redis_url),
                )
                await consume(consumers, stop, settings.grace_seconds)
    finally:
        await reading.aclose()
        await server.aclose()
    log.info("worker.stopped")


def _consumer(
    server: Redis,
    reading: Redis,
    settings: WorkerSettings,
    group: str,
    opened: Opened,
    turn: asyncio.Lock,
    stop: asyncio.Event,
) -> Consumer:
    shard = settings.shard
    liveness = Liveness(server, shard, group)
    calls = Calls(opened.handler, opened.limits, mark=liveness.mark, turn=turn)
    pause = Pause(server, shard, group, settings.dead_letters)
    memory = settings.memory if opened.remembers else None
    settler = Settler(server, shard, group, memory, settings.record_limits)
    repeats = None if memory is None else Repeats(server, shard, group, memory)
    processor = Processor(
        group, calls, opened.schedule, settler, liveness, pause, stop, repeats, accepts=opened.accepts
    )
    own = Group(server, shard, group)
    reader = Reader(reading, own, liveness, opened.limits.batch_entries)
    return Consumer((server, reading), reader, own, liveness, processor, Parked(server, shard, group), pause)
