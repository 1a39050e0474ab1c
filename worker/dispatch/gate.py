"""Whether a handler's calls may begin: not while its target is away, nor while the group is paused."""

import asyncio

import structlog

from runtime.backoff import Backoff
from runtime.metrics import HANDLER_FAILURES
from stream.redis.client import names
from worker.dispatch.dispatcher import Calls
from worker.dispatch.pause import Pause, Why
from worker.settle.retry_policy import kind

log = structlog.get_logger("handler")


class Gate:
    """Opens and shuts the way to one handler."""

    def __init__(self, group: str, calls: Calls, pause: Pause, backoff: Backoff, stop: asyncio.Event) -> None:
        self._group = group
        self._calls = calls
        self._pause = pause
        self._stop = stop
        self._backoff = backoff
        self._was: Why | None = None

    async def heed(self) -> bool:
        """Do what the last calls and the group's other workers ask for; whether calls may begin. Raises RedisError."""
        if self._calls.away is not None:
            await self._wait_for_target(self._calls.away)
            return False
        if (why := self._calls.take_halt()) is not None:
            await self._pause.begin(why)
        if self._calls.take_probed():
            await self._pause.end(Why.FAILING)
        if self._pause.why is None:
            if (
                self._calls.paused
            ):  # a probe has succeeded, here or elsewhere, or somebody says that the target is there
                self._calls.resume(proven=self._was is Why.FAILING)
            return True
        self._was = self._pause.why
        self._calls.pause()
        if self._calls.could_probe and await self._pause.may_probe():
            self._calls.probe()
        return False

    async def _wait_for_target(self, away: BaseException) -> None:
        HANDLER_FAILURES.labels(self._group, kind(away)).inc()
        log.warning("handler.unavailable", group=self._group, error=names(away))
        await self._backoff.wait(self._stop)
        if not self._stop.is_set():
            self._calls.resume()
