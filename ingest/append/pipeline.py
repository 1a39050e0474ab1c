"""What keeps entries, put together: appender, keeper, way to Redis, spool, drainer, watch."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from ingest.append.circuit_breaker import Breaker
from ingest.append.drainer import Drainer
from ingest.append.group_commit import Appender
from ingest.append.redis_writer import Way
from ingest.append.server_checks import START_SECONDS, Fitness
from ingest.append.watch import watch
from ingest.append.writer import Keeper
from ingest.settings import IngestSettings
from ingest.spool.queue import spooling
from runtime.tasks import end
from stream.redis.client import shown


@asynccontextmanager
async def keeping(server: Redis, settings: IngestSettings) -> AsyncIterator[Appender]:
    """Keep entries for the length of the block; at its end what waits is kept or refused first.

    At the beginning Redis has been tried. Raises Refusal if it must not be used, or if there can be no spool.
    """
    fitness = Fitness(server, settings.ack)
    await fitness.check_at_start(shown(settings.redis_url))
    way = Way(server, settings.shard.stream, fitness, Breaker(time.monotonic, random.uniform))
    async with spooling(settings.data, settings.spool_bytes) as spool:
        appender = Appender(Keeper(way, spool, settings.ack_budget_ms / 1000))
        drainer = Drainer(way, spool)
        await way.probe(drainer.feed, START_SECONDS)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(appender.run(), name="appender"),
                tasks.create_task(drainer.run(), name="drainer"),
                tasks.create_task(watch(way, fitness, spool), name="watch"),
            ]
            try:
                yield appender
                await appender.finish()
            finally:
                await end(running)
                await way.close()
