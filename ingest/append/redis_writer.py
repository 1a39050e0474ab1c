"""The direct path to a Redis server, behind a circuit breaker: open while it confirms batches, closed after a failure.

A lost connection is first replaced once within the batch's time, because a server or a proxy may close an idle one.
While the path is closed, no entry waits for Redis. The path opens again after a successful probe: the server passes its
checks and, if the spool holds entries, accepts some of them.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress

import structlog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from ingest.append.connection import AppendConnection, EntrySink
from ingest.append.server_checks import ServerChecks, ServerNotReady
from ingest.append.shard_turns import ShardTurns
from ingest.metrics import APPEND_FAILURES, BREAKER, REDIS_DOWN
from runtime.tasks import wait_for
from stream.redis.client import limit_wait, name_error
from stream.redis.errors import AWAY, MOVED, RedisFault, identify_fault
from stream.shard_watch import ShardWatch

log = structlog.get_logger("redis")

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0
PROBE_SECONDS = 10.0  # for a whole probe; each reply has its own limit
REMIND_SECONDS = 60.0

Feed = Callable[[EntrySink], Awaitable[object]]
Jitter = Callable[[float, float], float]


class NotConfirmed(Exception):  # noqa: N818 - named for the outcome
    """Redis has not confirmed the batch. It may be on the stream anyway."""


class RedisWriter:
    """The path to a server, closed until the first probe, which is due at once. ``jitter(low, high)`` picks a delay.

    On a cluster there is one for each shard (ingest.append.shard_writers), and ``peers`` has all of them: the metrics
    show a fault as long as one of them has it.
    """

    def __init__(
        self,
        server: Redis,
        watch: ShardWatch,
        checks: ServerChecks,
        clock: Callable[[], float] = time.monotonic,
        jitter: Jitter = random.uniform,
        peers: "list[RedisWriter] | None" = None,
        turns: ShardTurns | None = None,
    ) -> None:
        self._peers = [self] if peers is None else peers
        self._server = server
        self._watch = watch
        self._turns = turns or ShardTurns(watch)
        self._checks = checks
        self._clock = clock
        self._jitter = jitter
        self.fault: RedisFault | None = AWAY
        """The fault that closed the path; None while it is open."""
        self.error: Exception | None = None
        """The last error that closed the path."""
        self._connection: AppendConnection | None = None
        self._reconnecting = asyncio.Lock()
        self._closed = asyncio.Event()
        self._closed.set()
        self._delay = FIRST_SECONDS
        self._due = self._changed_at = self._reminded_at = clock()

    @property
    def is_open(self) -> bool:
        """Whether entries may be sent to Redis."""
        return self.fault is None

    may_drain = is_open
    """Whether spooled entries may be sent to Redis."""

    @property
    def reason(self) -> str:
        """The name of the fault that closed the path, for logs and metrics."""
        return (self.fault or AWAY).name

    async def append(self, batch: Sequence[bytes], within_seconds: float) -> None:
        """Return once Redis has confirmed the batch. Raises NotConfirmed."""
        connection = self._connection
        if connection is None or not self.is_open:
            raise NotConfirmed
        deadline = self._clock() + within_seconds
        try:
            try:
                await connection.append(batch, within_seconds)
            except RedisError as exc:
                if identify_fault(exc) not in {AWAY, MOVED}:
                    raise
                async with limit_wait(deadline - self._clock()):
                    connection = await self._replace(connection)
                await connection.append(batch, deadline - self._clock())
        except (RedisError, ServerNotReady) as exc:
            if self.is_open and self._connection is connection:  # else another batch has reported the failure
                self.fail(exc)
            APPEND_FAILURES.labels(self.reason).inc()
            raise NotConfirmed from exc

    async def _replace(self, lost: AppendConnection) -> AppendConnection:
        """Replace a lost connection. Batches that lost it together share the new one."""
        async with self._reconnecting:
            if self._connection is lost and self.is_open:
                await self._server.connection_pool.disconnect(inuse_connections=False)  # idle ones are lost too
                self._connection = await self._connect()
            if self._connection is None or not self.is_open:
                raise RedisConnectionError("Redis is away, as another batch has found")
            return self._connection

    def fail(self, exc: RedisError | ServerNotReady) -> None:
        """Close the path, or keep it closed, for 50 to 100 % of a delay that doubles with each failure.

        The delay is reset only after the path was open for the longest delay. So a server that fails again and again
        is probed less and less often.
        """
        fault = exc.fault if isinstance(exc, ServerNotReady) else identify_fault(exc)
        now = self._clock()
        if self.is_open and now - self._changed_at >= LONGEST_SECONDS:
            self._delay = FIRST_SECONDS
        is_new = self.fault is not fault or self.error is None
        if self.is_open:
            self._changed_at = now
        self._set_fault(fault)
        self.error = exc
        self._due = now + self._jitter(self._delay / 2, self._delay)
        self._delay = min(2 * self._delay, LONGEST_SECONDS)
        if is_new:
            self._log_down(now)

    def remind(self, spool_entries: int) -> None:
        """Log the fault again every minute if an operator has to act on it."""
        now = self._clock()
        if self.fault is not None and not self.fault.passing and now - self._reminded_at >= REMIND_SECONDS:
            self._log_down(now, spool_entries=spool_entries)

    def _log_down(self, now: float, **more: int) -> None:
        fault, error = self.fault or AWAY, self.error
        self._reminded_at = now
        write = log.warning if fault.passing else log.error
        write(
            "redis.down",
            why=fault.name,
            error=None if error is None else name_error(error),
            meaning=f"{fault.meaning}; entries go to the spool",
            what=fault.next_step,
            stream=self._watch.shards[0].stream,
            **more,
        )

    async def check(self, *, fully: bool) -> None:
        """Check the memory of the server, and ``fully`` also its settings; close the path if one is not good enough."""
        if not self.is_open:
            return
        with suppress(RedisError):  # the next append detects that Redis is away
            try:
                await self._checks.check_memory()
                if fully:
                    await self._checks.check_durability()
            except ServerNotReady as exc:
                self.fail(exc)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def connect(self) -> AppendConnection:
        """Open another connection. Raises RedisError."""
        return await AppendConnection.open(self._server, self._turns)

    async def _connect(self) -> AppendConnection:
        await self._checks.check()
        await self._watch.refresh()
        return await self.connect()

    async def wait_until_closed(self, within_seconds: float) -> None:
        """Return when the path is closed, or after this time."""
        await wait_for(self._closed, within_seconds)

    async def probe(self, feed: Feed, within_seconds: float = PROBE_SECONDS) -> None:
        """Wait until a probe is due, then check the server and run ``feed`` on a new connection.

        If both succeed the path is open. ``feed`` raises RedisError if Redis does not confirm its entries.
        """
        await asyncio.sleep(max(0.0, self._due - self._clock()))
        async with AsyncExitStack() as unless_open:
            try:
                async with limit_wait(within_seconds):
                    connection = await self._connect()
                    unless_open.push_async_callback(connection.close)
                    await feed(connection)
            except (RedisError, ServerNotReady) as exc:
                self.fail(exc)
            else:
                unless_open.pop_all()
                await self._open(connection)

    async def _open(self, connection: AppendConnection) -> None:
        if self._connection is None or self._connection.is_closed:
            self._connection = connection
        else:  # the connection in use did not fail, and batches may be in flight on it
            await connection.close()
        now = self._clock()
        down_seconds, stream = round(now - self._changed_at, 3), self._watch.shards[0].stream
        log.info("redis.up", stream=stream, shards=self._watch.layout.used, down_seconds=down_seconds)
        self._changed_at = now
        self._set_fault(None)

    def _set_fault(self, fault: RedisFault | None) -> None:
        previous, self.fault = self.fault, fault
        for each in (previous, fault):
            if each is not None:
                REDIS_DOWN.labels(each.name).set(any(peer.fault is each for peer in self._peers))
        BREAKER.set(any(peer.fault is not None for peer in self._peers))
        if fault is None:
            self._closed.clear()
        else:
            self._closed.set()
