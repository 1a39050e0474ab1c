"""A connection that appends batches to the stream, one script call for each shard that a batch goes to.

The server either rejects the whole batch before the script runs (NOSCRIPT, OOM and similar errors), or runs the script.
If the reply is lost, the batch may still be on the stream. After any error the connection is closed for good, so that a
late reply cannot be taken for the reply to the next batch.
"""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Protocol, Self

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

from ingest.append.shard_turns import Part, ShardTurns
from ingest.encoding import as_arguments, command
from ingest.metrics import APPEND_ENTRIES, APPEND_SECONDS
from stream.redis.client import limit_wait
from stream.redis.errors import error_code
from stream.redis.scripts import read_script

COMMANDS = ("EVALSHA", "SCRIPT", "XADD")
APPEND = read_script(__file__, "append.lua")

_COMMAND_PARTS = 4
_LOAD = b"*3\r\n" + command([b"SCRIPT", b"LOAD", APPEND.encode()])


class EntrySink(Protocol):
    """What spooled entries are appended to: a connection, or in order mode on a cluster those of several shards."""

    async def append(self, batch: Sequence[bytes], within_seconds: float) -> None:
        """Return once all entries are confirmed. Raises RedisError."""

    async def close(self) -> None:
        """Close what was opened for it."""


class AppendConnection:
    """A dedicated connection, created by ``open``. Several batches may be in flight; Redis answers them in order."""

    def __init__(self, connection: Any, turns: ShardTurns, sha: str) -> None:
        self._connection = connection
        self._turns = turns
        self._command = command([b"EVALSHA", sha.encode(), b"1"])
        self._previous = asyncio.Event()
        self._previous.set()
        self.is_closed = False

    @classmethod
    async def open(cls, server: Redis, turns: ShardTurns) -> Self:
        """Connect. Raises RedisError."""
        sha: str = await server.script_load(APPEND)
        pool: Any = server.connection_pool
        connection = cls(pool.make_connection(), turns, sha)
        try:
            await connection._connection.connect()
        except BaseException:
            await connection.close()
            raise
        return connection

    async def append(self, batch: Sequence[bytes], within_seconds: float) -> None:
        """Return once Redis has confirmed the batch. Raises RedisError and closes the connection.

        An empty batch appends nothing and only checks that this user may append to the shard whose turn it is.
        """
        started = perf_counter()
        parts = self._turns.split(batch)
        try:
            async with limit_wait(within_seconds):
                if len(parts) == 1:
                    await self._append(*parts[0])
                else:
                    await self._append_all(parts)
        except BaseException:
            await self.close()
            raise
        APPEND_SECONDS.observe(perf_counter() - started)
        APPEND_ENTRIES.observe(len(batch))

    async def _append_all(self, parts: Sequence[Part]) -> None:
        """Append to several shards at once, and raise the first error once all replies are there."""
        for error in await asyncio.gather(*(self._append(*part) for part in parts), return_exceptions=True):
            if error is not None:
                raise error

    async def _append(self, key: bytes, entries: Sequence[bytes]) -> None:
        count, arguments = as_arguments(entries)
        appended = await self._run_script(b"*%d\r\n%b%b%b" % (_COMMAND_PARTS + count, self._command, key, arguments))
        _require_equal(appended, len(entries))

    async def _run_script(self, packed: bytes) -> object:
        self._connection.check_primary()
        try:
            return await self._call(packed)
        except ResponseError as exc:
            if error_code(exc) != "NOSCRIPT":
                raise
        await self._call(_LOAD)  # the server lost its scripts (SCRIPT FLUSH), and nothing was appended
        return await self._call(packed)

    async def _call(self, packed: bytes) -> object:
        """Send a command, and read its reply after the replies of all earlier commands."""
        previous, self._previous = self._previous, asyncio.Event()
        finished = self._previous
        try:
            await self._connection.send_unbounded(packed)
            if not previous.is_set():
                await previous.wait()
            if self.is_closed:
                raise RedisConnectionError("the connection is closed")
            reply: object = await self._connection.read_unbounded()
            return reply
        finally:
            finished.set()

    async def close(self) -> None:
        """Close the connection without waiting for the server."""
        self.is_closed = True
        await self._connection.disconnect(nowait=True)


def _require_equal(appended: object, entries: int) -> None:
    """Raise InvalidResponse unless the script appended all entries: a proxy may have answered instead of Redis."""
    if appended != entries:
        raise InvalidResponse("the reply is not the number of entries that were sent")
