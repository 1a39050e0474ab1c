"""One connection that appends batches to the stream, one script call each: all of a batch, or on an error perhaps some.

The server either refuses a batch whole (NOSCRIPT, OOM, and whatever else is found before the script runs), or runs it.
A batch whose reply is lost may have landed all the same. After any error the connection is never used again: a reply
that comes late must not be taken for that of the next batch.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Self

from hiredis import Reader
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

from ingest.encoding import as_arguments, command
from runtime.metrics import APPEND_ENTRIES, APPEND_SECONDS
from stream.redis.errors import code

COMMANDS = ("EVALSHA", "SCRIPT", "XADD")

_COMMAND_PARTS = 4

# ARGV: for each entry the number of its field names and values, then these.
APPEND = """
local i, added = 1, 0
while i <= #ARGV do
  local n = tonumber(ARGV[i])
  redis.call('XADD', KEYS[1], '*', unpack(ARGV, i + 1, i + n))
  i = i + n + 1
  added = added + 1
end
return added
"""
_LOAD = b"*3\r\n" + command([b"SCRIPT", b"LOAD", APPEND.encode()])


class _Replies(asyncio.Protocol):
    """What comes by the connection: one reply for each command, in their order."""

    def __init__(self) -> None:
        self._reader = Reader(protocolError=InvalidResponse, replyError=ResponseError)
        self._awaited: deque[asyncio.Future[object]] = deque()
        self._is_lost = False
        self._loop = asyncio.get_running_loop()

    def await_next(self) -> asyncio.Future[object]:
        """Return the next one, to come. It raises RedisError."""
        awaited = self._loop.create_future()
        self._awaited.append(awaited)
        if self._is_lost:
            self._fail(RedisConnectionError("the connection is closed"))
        return awaited

    def give_up(self) -> None:
        """Do not wait any longer: what is awaited becomes a TimeoutError. The connection is of no use any more."""
        self._fail(TimeoutError("no reply in time"))

    def data_received(self, data: bytes) -> None:
        """Take the replies that are whole."""
        self._reader.feed(data)
        try:
            while self._awaited and (reply := self._reader.gets()) is not False:
                _give(self._awaited.popleft(), reply)
        except InvalidResponse as exc:
            self._fail(exc)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's interface
        """End the wait."""
        self._is_lost = True
        self._fail(RedisConnectionError("the connection is lost"))

    def _fail(self, exc: Exception) -> None:
        while self._awaited:
            _give(self._awaited.popleft(), exc)


def _give(awaited: asyncio.Future[object], reply: object) -> None:
    if awaited.done():
        return
    if isinstance(reply, Exception):
        awaited.set_exception(reply)
    else:
        awaited.set_result(reply)


class Link:
    """A connection of its own. Made by ``open``."""

    def __init__(self, pool: Any, connection: Any, stream: str, sha: str) -> None:
        self._pool = pool
        self._connection = connection
        self._replies = _Replies()
        self._writer: asyncio.StreamWriter | None = connection.hand_over(self._replies)
        self._command = command([b"EVALSHA", sha.encode(), b"1", stream.encode()])
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, server: Redis, stream: str) -> Self:
        """Connect. Raises RedisError or OSError."""
        sha: str = await server.script_load(APPEND)
        pool: Any = server.connection_pool
        return cls(pool, await pool.get_connection(), stream, sha)

    async def append(self, batch: Sequence[bytes], within_seconds: float) -> None:
        """Return once Redis has confirmed the batch. Raises RedisError or OSError (TimeoutError); then it is closed."""
        began = perf_counter()
        count, entries = as_arguments(batch)
        packed = b"*%d\r\n%b%b" % (_COMMAND_PARTS + count, self._command, entries)
        limit = self._loop.call_later(within_seconds, self._replies.give_up)
        try:
            self._connection.check_primary()
            try:
                await self._ask(packed)
            except ResponseError as exc:
                if code(exc) != "NOSCRIPT":
                    raise
                await self._ask(_LOAD)  # the server forgot its scripts (SCRIPT FLUSH); nothing has run
                await self._ask(packed)
        except BaseException:
            await self.close()
            raise
        finally:
            limit.cancel()
        APPEND_SECONDS.observe(perf_counter() - began)
        APPEND_ENTRIES.observe(len(batch))

    async def _ask(self, packed: bytes) -> None:
        if self._writer is None or self._writer.is_closing():
            raise RedisConnectionError("the connection is closed")
        reply = self._replies.await_next()
        try:
            self._writer.write(packed)
        except RuntimeError as exc:  # uvloop's, where the peer has reset it
            raise RedisConnectionError("the connection is closed") from exc
        await reply

    async def close(self) -> None:
        """Close it, without waiting for the other side."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()
            await self._pool.release(self._connection)
