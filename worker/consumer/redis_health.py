"""How one consumer gets on with Redis: well, or in what trouble; told to `/ready`, the log and the metrics.

The loop asks here whether it may go on. It never waits for ever: redis-py bounds every reply, stream.connect every
command, and a read that still does not end is given up here.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
from redis.asyncio import Redis

from stream.redis.client import ServerUnfit, describe_error
from stream.redis.errors import GONE, UNSUPPORTED, GroupGone, RedisFault, Stalled, identify_fault
from worker.metrics import REDIS_FAULTS

log = structlog.get_logger("condition")

# More than BLOCK and the limit of one command, so it does not happen while Redis answers in time.
SLOW_SECONDS = 10.0
# More than all commands of one read may take together.
STALLED_SECONDS = 30.0

T = TypeVar("T")


class RedisHealth:
    """The condition of one consumer. ``servers`` are its clients."""

    def __init__(self, group: str, servers: Sequence[Redis], clock: Callable[[], float] = time.monotonic) -> None:
        self._group = group
        self._servers = servers
        self._clock = clock
        self._fault: RedisFault | None = None
        self._waiting_since: float | None = None
        self._group_is_gone = False
        self._was_healthy = False
        self.is_healthy = False

    @property
    def not_ready_reason(self) -> str | None:
        """Why the group is not being consumed right now; None while it is."""
        if not self.is_healthy:
            return f"group {self._group}: {self._fault.meaning if self._fault else 'starting'}"
        waited = 0.0 if self._waiting_since is None else self._clock() - self._waiting_since
        return f"group {self._group}: no answer from Redis for {waited:.0f} s" if waited > SLOW_SECONDS else None

    def mark_healthy(self) -> None:
        """Say that everything is prepared for reading."""
        self.is_healthy = self._was_healthy = True
        self._fault, self._group_is_gone = None, False

    def record_upkeep_error(self, exc: Exception) -> None:
        """Take in what the upkeep fault: that the group is gone, a read may not tell."""
        self._group_is_gone = self._group_is_gone or identify_fault(exc) is GONE

    async def record_failure(self, exc: Exception) -> RedisFault:
        """Judge the error that ended the loop's work, tell it, and drop connections that cannot be trusted.

        A server that is unfit at the very start is no trouble that passes: raises ServerUnfit again.
        """
        if isinstance(exc, ServerUnfit) and not self._was_healthy:
            raise exc
        fault = UNSUPPORTED if isinstance(exc, ServerUnfit) else identify_fault(exc)
        self.is_healthy, self._fault = False, fault
        REDIS_FAULTS.labels(self._group, fault.name).inc()
        tell = log.warning if fault.passing else log.error
        tell(
            "consumer.redis_fault",
            group=self._group,
            fault=fault.name,
            meaning=fault.meaning,
            error=describe_error(exc),
        )
        if not fault.connected:
            for server in self._servers:
                await server.connection_pool.disconnect(inuse_connections=False)
        return fault

    async def wait_for(self, reading: "asyncio.Task[T]") -> T:
        """Return what the read gave. Raises what it or the upkeep fault, and Stalled if it does not end."""
        self._waiting_since = self._clock()
        try:
            await asyncio.wait([reading], timeout=STALLED_SECONDS)
        finally:
            self._waiting_since = None
        if not reading.done():
            raise Stalled
        batch = reading.result()
        if self._group_is_gone:
            raise GroupGone
        return batch

    @staticmethod
    async def abandon(reading: "asyncio.Task[T]") -> None:
        """Cancel a read, and wait no longer than a moment for its end; what it has read stays pending."""
        reading.cancel()
        await asyncio.wait([reading], timeout=1)
        if reading.done() and not reading.cancelled():
            reading.exception()  # looked at, so that asyncio does not complain
