"""The calls of a worker in order mode that has lost Redis."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from stream.redis.client import client
from stream.shard_watch import watch_shards
from tests.support.samples.events import body
from tests.support.servers.proxy import run_proxy, through
from tests.support.streams.settled import append_payloads
from tests.support.waiting import until
from worker.consumer.processor import Processor
from worker.dispatch.call import Limits
from worker.events.event import StatusEvent
from worker.handler_loader import LoadedHandler
from worker.settings import WorkerSettings
from worker.settle.retry_policy import RetryPolicy
from worker.timing import TIMING
from worker.wiring import make_consumers

GRACE_SECONDS = 600.0


class EndlessHandler:
    """A handler whose calls end when they are cancelled."""

    def __init__(self) -> None:
        self.calls = self.cancelled = 0

    def alone(self, _event: StatusEvent) -> bool:
        return True

    async def handle(self, _events: Sequence[StatusEvent]) -> None:
        self.calls += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1


async def test_a_stopping_worker_that_loses_redis_cancels_its_calls(
    valkey_url: str, server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that waits for the end of its calls at its stop ends them once another worker may take the shard."""
    handler, stop, finishing = EndlessHandler(), asyncio.Event(), asyncio.Event()
    loaded = LoadedHandler(handler, Limits(concurrency=2, timeout_seconds=GRACE_SECONDS), RetryPolicy())
    finish = Processor.finish

    async def note_finish(self: Processor) -> None:
        finishing.set()
        await finish(self)

    monkeypatch.setattr(Processor, "finish", note_finish)
    await append_payloads(server, shard, body(message_uuid="m"))

    async def is_called() -> bool:
        return handler.calls > 0

    async def is_finishing() -> bool:
        return finishing.is_set()

    async def is_cancelled() -> bool:
        return handler.cancelled == handler.calls

    async with run_proxy(urlsplit(valkey_url).port or 0) as proxy, asyncio.TaskGroup() as tasks:
        url = through(proxy, valkey_url)
        user = client(url)
        settings = WorkerSettings.load(redis_url=url, stream=shard.name, order="message")
        async with watch_shards(server, settings, stop) as watch:
            consumers = make_consumers((user, user), settings, {"g": loaded}, watch, stop, TIMING.scale(0.1))
            running = tasks.create_task(consumers.run(watch, stop, GRACE_SECONDS))
            await until(is_called)
            stop.set()
            await until(is_finishing)
            proxy.freeze()
            await until(is_cancelled)
            proxy.thaw()
            await running
        await user.aclose()
