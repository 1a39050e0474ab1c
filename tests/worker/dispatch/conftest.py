"""The fixture that makes dispatchers."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.streams.pending import make_group
from tests.support.workers.gated_handler import DispatcherFactory, GatedHandler
from tests.support.workers.parts import make_parts
from worker.dispatch.call import Limits
from worker.dispatch.dispatcher import Dispatcher
from worker.timing import TIMING


@pytest.fixture
async def make(server: Redis, shard: Shard) -> AsyncIterator[DispatcherFactory]:
    """Makes dispatchers, of which no call is left running."""
    pairs: list[tuple[GatedHandler, Dispatcher]] = []
    await make_group(server, shard, 0)

    async def make(handler: GatedHandler, limits: Limits, clock: Callable[[], float] = time.monotonic) -> Dispatcher:
        parts = make_parts(server, shard, handler, limits=limits, clock=clock, timing=replace(TIMING, late=1e9))
        await parts.heartbeat.announce()
        pairs.append((handler, parts.dispatcher))
        return parts.dispatcher

    yield make
    for handler, dispatcher in pairs:
        handler.deaf = False
        await dispatcher.cancel()
        handler.open(*handler.shut)
