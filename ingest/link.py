"""One connection that appends batches to the stream, one script call each: all of a batch, or on an error perhaps some.

The server either refuses a batch whole (NOSCRIPT, OOM, and whatever else is found before the script runs), or runs it.
A batch whose reply is lost may have landed all the same. After any error the connection is never used again: a reply
that comes late must not be taken for that of the next batch.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, Self

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError

from ingest.spool_row import Fields
from stream.metrics import APPEND_ENTRIES, APPEND_SECONDS

COMMANDS = ("EVALSHA", "SCRIPT", "XADD")

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

_pack: Any = pack_command  # its type says that a command has one part


class Link:
    """A connection of its own. Made by ``open``."""

    def __init__(self, pool: Any, connection: AbstractConnection, stream: bytes, sha: bytes) -> None:
        self._pool = pool
        self._connection: AbstractConnection | None = connection
        self._stream = stream
        self._sha = sha
        self._socket_seconds = connection.socket_timeout
        connection.socket_timeout = None  # ``append`` has a limit for the whole; another one for each step is dear

    @classmethod
    async def open(cls, server: Redis, stream: str) -> Self:
        """Connect. Raises RedisError or OSError."""
        sha: str = await server.script_load(APPEND)
        pool: Any = server.connection_pool
        return cls(pool, await pool.get_connection(), stream.encode(), sha.encode())

    async def append(self, batch: Sequence[Fields], within_seconds: float) -> None:
        """Return once Redis has confirmed the batch. Raises RedisError or OSError (TimeoutError); then it is closed."""
        connection = self._connection
        assert connection is not None, "used after an error"  # noqa: S101 - a mistake in this program
        began = perf_counter()
        arguments = [b"EVALSHA", self._sha, b"1", self._stream]
        for fields in batch:
            arguments.append(b"%d" % len(fields))
            arguments.extend(fields)
        packed: bytes = _pack(tuple(arguments))
        try:
            async with asyncio.timeout(within_seconds):
                try:
                    await connection.send_packed_command(packed)
                    await connection.read_response()
                except NoScriptError:  # the server forgot its scripts (restart, SCRIPT FLUSH); nothing has run
                    await connection.send_command("SCRIPT LOAD", APPEND)
                    await connection.read_response()
                    await connection.send_packed_command(packed)
                    await connection.read_response()
        except BaseException:
            await self.close()
            raise
        APPEND_SECONDS.observe(perf_counter() - began)
        APPEND_ENTRIES.observe(len(batch))

    async def close(self) -> None:
        """Close it, without waiting for the other side."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.socket_timeout = self._socket_seconds
            with suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
            await self._pool.release(connection)
