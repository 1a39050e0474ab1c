"""The calls of a worker in order mode that has lost Redis."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from stream.redis.client import client
from stream.shard_watch import watch_shards
from tests.support.processes import becomes
from tests.support.samples.events import body
from tests.support.servers.proxy import run_proxy, through
from tests.support.streams.settled import append_payloads
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
    handler, finishing = EndlessHandler(), asyncio.Event()
    loaded = LoadedHandler(handler, Limits(concurrency=2, timeout_seconds=GRACE_SECONDS), RetryPolicy())
    finish = Processor.finish

    async def note_finish(self: Processor) -> None:
        finishing.set()
        await finish(self)

    monkeypatch.setattr(Processor, "finish", note_finish)
    await append_payloads(server, shard, body(message_uuid="m"))

    async with run_proxy(urlsplit(valkey_url).port or 0) as proxy:
        url = through(proxy, valkey_url)
        settings = WorkerSettings.load(redis_url=url, stream=shard.name, order="message")
        while not finishing.is_set():  # a worker that the machine stops just before its stop has no call to wait for
            user, stop = client(url), asyncio.Event()
            async with asyncio.TaskGroup() as tasks, watch_shards(server, settings, stop) as watch:
                consumers = make_consumers((user, user), settings, {"g": loaded}, watch, stop, TIMING.scale(0.1))
                running = tasks.create_task(consumers.run(watch, stop, GRACE_SECONDS))
                await becomes(lambda: handler.calls > handler.cancelled)
                stop.set()
                await becomes(lambda: finishing.is_set() or running.done())  # noqa: B023 - read in this turn
                proxy.freeze()
                await becomes(lambda: handler.cancelled == handler.calls)
                proxy.thaw()
                await running
            await user.aclose()
