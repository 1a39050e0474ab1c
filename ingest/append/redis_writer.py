"""The direct way to Redis: open while Redis confirms what it is given, shut from the first failure on.

While it is shut nothing waits for Redis. It opens again when a probe has found the server fit and, if the spool holds
entries, has appended some of them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.append.circuit_breaker import Breaker
from ingest.append.connection import Link
from ingest.append.server_checks import Fitness, Unfit
from runtime.metrics import APPEND_FAILURES, BREAKER
from stream.redis.client import reason
from stream.redis.errors import trouble

log = structlog.get_logger("way")

PROBE_SECONDS = 10.0  # in all; each answer has a limit of its own

_NUMBERS = {"closed": 0, "half-open": 1, "open": 2}

Feed = Callable[[Link], Awaitable[object]]


class Shut(Exception):  # noqa: N818 - named for what the caller finds
    """What was given is not confirmed, and may have landed all the same."""


class Way:
    """The way; shut until the first probe."""

    def __init__(self, server: Redis, stream: str, fitness: Fitness, breaker: Breaker) -> None:
        self._server = server
        self._stream = stream
        self._fitness = fitness
        self._breaker = breaker
        self._link: Link | None = None
        self._shut = asyncio.Event()
        self._shut_at = time.monotonic()
        self._shut.set()

    @property
    def is_open(self) -> bool:
        """Whether entries may be given to Redis."""
        return self._breaker.state == "closed" and self._link is not None

    @property
    def why_shut(self) -> str:
        """Return one word for logs and metrics."""
        return self._breaker.reason or "away"

    async def append(self, batch: Sequence[bytes], within_seconds: float) -> None:
        """Return once Redis has confirmed the batch. Raises Shut."""
        link = self._link
        if link is None or not self.is_open:
            raise Shut
        try:
            await link.append(batch, within_seconds)
        except (RedisError, OSError) as exc:
            if self._link is link:  # else another batch has found it out before
                self._link = None
                self.fail(exc)
            APPEND_FAILURES.labels(self.why_shut).inc()
            raise Shut from exc

    def fail(self, exc: RedisError | OSError | Unfit) -> None:
        """Shut it, or keep it shut, for this reason."""
        why = exc.why if isinstance(exc, Unfit) else trouble(exc).name
        if self.why_shut != why or self._breaker.state == "closed":
            log.warning("way.shut", why=why, error=reason(exc), what="entries go to the spool")
        if self._breaker.state == "closed":
            self._shut_at = time.monotonic()
        self._breaker.fail(why)
        self._shut.set()
        BREAKER.set(_NUMBERS[self._breaker.state])

    async def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            await self._link.close()

    async def connect(self) -> Link:
        """Make a connection more. Raises RedisError or OSError."""
        return await Link.open(self._server, self._stream)

    async def shuts(self, within_seconds: float) -> None:
        """Return as soon as it is shut, or after so long."""
        shut = asyncio.ensure_future(self._shut.wait())
        try:
            await asyncio.wait([shut], timeout=within_seconds)
        finally:
            shut.cancel()

    async def probe(self, feed: Feed, within_seconds: float = PROBE_SECONDS) -> None:
        """When it is time, try Redis, also with what ``feed`` appends. If all goes well the way is open.

        ``feed`` raises RedisError or OSError when Redis does not confirm.
        """
        await asyncio.sleep(self._breaker.due_seconds())
        self._breaker.probe()
        BREAKER.set(_NUMBERS[self._breaker.state])
        async with AsyncExitStack() as unless_open:
            try:
                async with asyncio.timeout(within_seconds):
                    await self._fitness.check()
                    link = await self.connect()
                    unless_open.push_async_callback(link.close)
                    await feed(link)
            except (RedisError, OSError, Unfit) as exc:
                self.fail(exc)
            else:
                unless_open.pop_all()
                await self._open(link)

    async def _open(self, link: Link) -> None:
        if self._link is not None:  # it was shut for another reason than this one's failure, and may be in use
            await link.close()
        else:
            self._link = link
        self._shut.clear()
        self._breaker.succeed()
        BREAKER.set(_NUMBERS[self._breaker.state])
        log.info("way.open", stream=self._stream, shut_seconds=round(time.monotonic() - self._shut_at, 3))
