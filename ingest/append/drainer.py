"""Gives what the spool holds to Redis, in slices, and is the one who finds out that Redis takes entries again."""

from collections.abc import Awaitable, Callable

import structlog
from redis.exceptions import RedisError

from ingest.append.connection import AppendConnection
from ingest.append.redis_writer import RedisWriter
from ingest.spool.errors import NotSpooled
from ingest.spool.queue import Spool

log = structlog.get_logger("drainer")

PROBE_ENTRIES = 50
SLICE_ENTRIES = 250
CONFIRM_SECONDS = 2.0
LOOK_SECONDS = 1.0
TAKE_OVER_LOOKS = 10


class Drainer:
    """Drains until cancelled. ``identify`` asks Redis which server it is, as ``Spool.bind`` needs it."""

    def __init__(self, writer: RedisWriter, spool: Spool, identify: Callable[[str], Awaitable[str | None]]) -> None:
        self._writer = writer
        self._spool = spool
        self._identify = identify

    async def run(self) -> None:
        """Probe while the path to Redis is closed; else drain, and now and then look for what dead processes left."""
        looks = 0
        while True:
            if not self._writer.is_open:
                await self._writer.probe(self.greet)
            elif not await self._drain():
                await self._writer.wait_until_closed(LOOK_SECONDS)
                looks += 1
                if looks % TAKE_OVER_LOOKS == 0 and self._writer.is_open:
                    await self._take_over()

    async def greet(self, connection: AppendConnection) -> bool:
        """Find out which server a new connection leads to, and feed it. Raises RedisError."""
        try:
            await self._spool.bind(self._identify)
        except NotSpooled:  # the disk does not answer: nothing can be drained
            return False
        return await self.feed(connection)

    async def feed(self, connection: AppendConnection, entries: int = PROBE_ENTRIES) -> bool:
        """Move at most ``entries`` from the spool to Redis; return whether there were any. Raises RedisError."""
        try:
            part = await self._spool.read(entries)
        except NotSpooled:
            return False
        if part is None:
            return False
        await connection.append(part.slice.entries, CONFIRM_SECONDS)
        try:
            await self._spool.confirm(part)
        except NotSpooled:  # a disk that does not answer: they may come twice
            return False
        return True

    async def _drain(self) -> bool:
        """Move all there is, until the path to Redis is closed; return whether there was any."""
        if not self._spool.held.entries:
            return False
        moved = False
        try:
            connection = await self._writer.connect()
            try:
                moved = await self.greet(connection)
                while self._writer.is_open and await self.feed(connection, SLICE_ENTRIES):
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
