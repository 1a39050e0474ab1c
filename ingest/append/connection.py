"""One connection that appends batches to the stream, one script call each: all of a batch, or on an error perhaps some.

The server either refuses a batch whole (NOSCRIPT, OOM, and whatever else is found before the script runs), or runs it.
A batch whose reply is lost may have landed all the same. After any error the connection is never used again: a reply
that comes late must not be taken for that of the next batch.
"""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ingest.encoding import as_arguments, command
from ingest.metrics import APPEND_ENTRIES, APPEND_SECONDS
from stream.redis.errors import error_code
from stream.redis.scripts import read_script

COMMANDS = ("EVALSHA", "SCRIPT", "XADD")
APPEND = read_script(__file__, "append.lua")

_COMMAND_PARTS = 4
_LOAD = b"*3\r\n" + command([b"SCRIPT", b"LOAD", APPEND.encode()])


class AppendConnection:
    """A connection of its own, made by ``open``. Several batches may be in flight; Redis answers in their order."""

    def __init__(self, connection: Any, stream: str, sha: str) -> None:
        self._connection = connection
        self._command = command([b"EVALSHA", sha.encode(), b"1", stream.encode()])
        self._previous = asyncio.Event()
        self._previous.set()
        self.is_closed = False

    @classmethod
    async def open(cls, server: Redis, stream: str) -> Self:
        """Connect. Raises RedisError."""
        sha: str = await server.script_load(APPEND)
        pool: Any = server.connection_pool
        opened = cls(pool.make_connection(), stream, sha)
        try:
            await opened._connection.connect()
        except BaseException:
            await opened.close()
            raise
        return opened

    async def append(self, batch: Sequence[bytes], within_seconds: float) -> None:
        """Return once Redis has confirmed the batch. Raises RedisError; then the connection is closed.

        An empty batch appends nothing: it tries whether the user may append to this stream.
        """
        started = perf_counter()
        count, entries = as_arguments(batch)
        packed = b"*%d\r\n%b%b" % (_COMMAND_PARTS + count, self._command, entries)
        try:
            async with asyncio.timeout(within_seconds):
                appended = await self._run_script(packed)
            _require_equal(appended, len(batch))
        except BaseException as exc:
            await self.close()
            if isinstance(exc, TimeoutError):
                raise RedisTimeoutError("no answer within the limit") from None
            raise
        APPEND_SECONDS.observe(perf_counter() - started)
        APPEND_ENTRIES.observe(len(batch))

    async def _run_script(self, packed: bytes) -> object:
        self._connection.check_primary()
        try:
            return await self._call(packed)
        except ResponseError as exc:
            if error_code(exc) != "NOSCRIPT":
                raise
        await self._call(_LOAD)  # the server forgot its scripts (SCRIPT FLUSH); nothing has run
        return await self._call(packed)

    async def _call(self, packed: bytes) -> object:
        """Send a command, and read its reply after those of all commands that were sent before."""
        previous, self._previous = self._previous, asyncio.Event()
        done = self._previous
        try:
            await self._connection.send_unbounded(packed)
            if not previous.is_set():
                await previous.wait()
            if self.is_closed:
                raise RedisConnectionError("the connection is closed")
            reply: object = await self._connection.read_unbounded()
            return reply
        finally:
            done.set()

    async def close(self) -> None:
        """Close it, without waiting for the other side."""
        self.is_closed = True
        await self._connection.disconnect(nowait=True)


def _require_equal(appended: object, entries: int) -> None:
    """Raise InvalidResponse for a reply that is not the script's: something between us and Redis has answered."""
    if appended != entries:
        raise InvalidResponse("the reply is not the number of entries that were given")
