"""Moves spooled entries to Redis in slices, and probes Redis while it is away."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from ingest.append.connection import EntrySink
from ingest.append.shard_writers import Writer
from ingest.encoding import find_traceparents
from ingest.spool.errors import NotSpooled
from ingest.spool.queue import Spool

if TYPE_CHECKING:
    from runtime.tracing.tracer import Tracing

log = structlog.get_logger("drainer")

PROBE_ENTRIES = 50
SLICE_ENTRIES = 250
SLICES = 40  # on one connection, and so to one node of a cluster
CONFIRM_SECONDS = 2.0
POLL_SECONDS = 1.0
TAKE_OVER_POLLS = 10
ATTRIBUTES = {"messaging.system": "redis", "messaging.operation.name": "drain", "messaging.operation.type": "send"}
COUNT = "messaging.batch.message_count"


class Drainer:
    """Drains the spool until cancelled. ``identify`` asks Redis for the server's id, as ``Spool.bind`` needs it."""

    def __init__(
        self,
        writer: Writer,
        spool: Spool,
        identify: Callable[[str], Awaitable[str | None]],
        tracing: "Tracing | None" = None,
    ) -> None:
        self._writer = writer
        self._spool = spool
        self._identify = identify
        self._tracing = tracing

    async def run(self) -> None:
        """Probe Redis while it is away, else drain. Every TAKE_OVER_POLLS polls take over folders of dead processes."""
        polls = 0
        while True:
            if not self._writer.may_drain:
                await self._writer.probe(self.greet)
            elif not await self._drain():
                await self._writer.wait_until_closed(POLL_SECONDS)
                polls += 1
                if polls % TAKE_OVER_POLLS == 0 and self._writer.may_drain:
                    await self._take_over()

    async def greet(self, connection: EntrySink) -> bool:
        """Identify the server behind a new connection, then feed it. Raises RedisError."""
        try:
            await self._spool.bind(self._identify)
        except NotSpooled:  # the disk does not answer, so nothing can be drained
            return False
        return await self.feed(connection)

    async def feed(self, connection: EntrySink, entries: int = PROBE_ENTRIES) -> bool:
        """Move up to ``entries`` entries from the spool to Redis; return whether any were moved. Raises RedisError."""
        try:
            part = await self._spool.read(entries)
        except NotSpooled:
            return False
        if part is None:
            return False
        await self._append(connection, part.slice.entries)
        try:
            await self._spool.confirm(part)
        except NotSpooled:  # the disk does not answer, so the entries may be appended again
            return False
        return True

    async def _append(self, connection: EntrySink, entries: Sequence[bytes]) -> None:
        """Append a slice. If it has traced receipts, do so in a span that links to each of them."""
        links = find_traceparents(entries) if self._tracing is not None else []
        if self._tracing is None or not links:
            await connection.append(entries, CONFIRM_SECONDS)
            return
        with self._tracing.run_span(
            "drain spool", "producer", {**ATTRIBUTES, COUNT: len(entries)}, links=links
        ) as span:
            try:
                await connection.append(entries, CONFIRM_SECONDS)
            except RedisError as exc:
                self._tracing.mark_failed(span, type(exc).__name__)
                raise

    async def _drain(self) -> bool:
        """Move entries while the path to Redis is open, at most SLICES slices; return whether any were moved."""
        if not self._spool.held.entries:
            return False
        moved = False
        try:
            connection = await self._writer.connect()
            try:
                moved = await self.greet(connection)
                for _ in range(SLICES):
                    if not self._writer.may_drain or not await self.feed(connection, SLICE_ENTRIES):
                        break
                    moved = True
            finally:
                await connection.close()
        except RedisError as exc:
            self._writer.fail(exc)
        if moved and not self._spool.held.entries:
            log.info("drainer.done")
        return moved

    async def _take_over(self) -> None:
        try:
            await self._spool.take_over()
        except NotSpooled as exc:
            log.warning("drainer.blocked", why=exc.why)
