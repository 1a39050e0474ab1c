"""The health of one consumer's connection to Redis, for `/ready`, the log and the metrics.

Every wait has a limit: redis-py limits each reply, stream.redis.client limits each command, and this module limits each
read as a whole.
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

log = structlog.get_logger("redis_health")

SLOW_SECONDS = 10.0  # the limit of a blocking read (stream.redis.client): Redis is late
STALLED_SECONDS = 30.0  # longer than the limits of all commands of one read together

T = TypeVar("T")


class RedisHealth:
    """Whether Redis serves one consumer. ``servers`` are its clients."""

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
        """Mark the consumer healthy: it is ready to read."""
        self.is_healthy = self._was_healthy = True
        self._fault, self._group_is_gone = None, False

    def record_upkeep_error(self, exc: Exception) -> None:
        """Note an error of the upkeep: a read may not notice that the group is gone."""
        self._group_is_gone = self._group_is_gone or identify_fault(exc) is GONE

    async def record_failure(self, exc: Exception) -> RedisFault:
        """Classify the error that ended the loop, log it, and drop broken connections.

        Raises ServerUnfit again if the server cannot be used at the start: a retry would not help.
        """
        if isinstance(exc, ServerUnfit) and not self._was_healthy:
            raise exc
        fault = UNSUPPORTED if isinstance(exc, ServerUnfit) else identify_fault(exc)
        self.is_healthy, self._fault = False, fault
        REDIS_FAULTS.labels(self._group, fault.name).inc()
        log_fault = log.warning if fault.passing else log.error
        log_fault(
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
        """Return the result of a read. Raises its error, GroupGone if the upkeep met it, and Stalled on timeout."""
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
        """Cancel a read, and wait at most a second for its end. Its entries stay pending."""
        reading.cancel()
        await asyncio.wait([reading], timeout=1)
        if reading.done() and not reading.cancelled():
            reading.exception()  # marks it as retrieved: asyncio would log it
