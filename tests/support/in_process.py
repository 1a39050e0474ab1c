"""Running ingest and workers inside the test's own loop, on real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

import ingest.app
import worker.app
from console.up.valkey import find_free_port
from ingest.metrics import REDIS_DOWN
from ingest.settings import IngestSettings
from stream.keys import Shard
from stream.shard_watch import watch_shards
from tests.support.processes import answer, ask, open_http
from tests.support.waiting import until
from worker.consumer.consumer_set import ConsumerSet
from worker.handler_loader import LoadedHandler
from worker.settings import WorkerSettings
from worker.timing import TIMING, Timing
from worker.wiring import make_consumers


@dataclass(frozen=True, slots=True)
class Running:
    """A process's worth of ingest: where it listens, and how to stop it."""

    port: int
    admin_port: int
    stop: asyncio.Event

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhooks/message-status"

    @property
    def ready_url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}/ready"


@asynccontextmanager
async def run_ingest(*, ready: bool = True, **settings: Any) -> AsyncIterator[Running]:
    """Ingest with these settings, by default after it has become ready."""
    running = Running(find_free_port(), find_free_port(), asyncio.Event())
    REDIS_DOWN.clear()  # a fault that another test has left; a real process starts without one
    loaded = IngestSettings.load(
        **{"signatures": "off", "port": running.port, "admin_port": running.admin_port} | settings
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ingest.app.serve(loaded, running.stop))
        try:
            await answers_in_time(running.ready_url if ready else running.ready_url.replace("ready", "live"))
            yield running
        finally:
            running.stop.set()


@asynccontextmanager
async def run_worker(timing: Timing = TIMING, /, **settings: Any) -> AsyncIterator[asyncio.Event]:
    """A worker with these settings, until the block ends or the event is set."""
    stop = asyncio.Event()
    loaded = WorkerSettings.load(**settings)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.app.serve(loaded, stop, timing=timing))
        try:
            yield stop
        finally:
            stop.set()


@asynccontextmanager
async def run_group(
    server: Redis, url: str, shard: Shard, handler: LoadedHandler, timing: Timing = TIMING, **settings: Any
) -> AsyncIterator[ConsumerSet]:
    """Run a group `g` on all shards of the stream while the block runs."""
    loaded, stop = WorkerSettings.load(redis_url=url, stream=shard.name, **settings), asyncio.Event()
    async with watch_shards(server, loaded, stop) as watch, asyncio.TaskGroup() as tasks:
        consumers = make_consumers((server, server), loaded, {"g": handler}, watch, stop, timing)
        tasks.create_task(consumers.run(watch, stop, 1.0))
        try:
            yield consumers
        finally:
            stop.set()


async def answers(url: str, status: int) -> bool:
    """Whether a GET is answered with this status."""
    return await answer(url) == status


async def answers_in_time(url: str) -> None:
    """Return as soon as a GET is answered with 200."""

    async def does() -> bool:
        return await ask(http, url) == 200

    async with open_http() as http:
        await until(does)
