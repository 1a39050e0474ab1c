"""Group commit: all entries waiting at one moment go to Redis in one round trip, each answered when it is confirmed.

One script call a batch, on a connection of its own: the server either refuses it whole (NOSCRIPT, OOM) before anything
is stored, or runs it. A batch whose reply is lost may have landed all the same; its senders are told to come again,
and the same payload then stands on the stream twice, which workers do not mind.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from time import perf_counter
from typing import Any

import structlog
from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.backoff import Backoff
from stream.connect import reason, require
from stream.entry import Entry
from stream.metrics import APPEND_ENTRIES, APPEND_FAILURES, APPEND_SECONDS

log = structlog.get_logger("appender")

BATCH_ENTRIES = 256
BATCH_BYTES = 4 * 1024 * 1024
WAITING_ENTRIES = 8192
RECONNECT_SECONDS = (0.1, 2.0)

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

Waiting = tuple[list[bytes], int, asyncio.Future[None]]


class NotKept(Exception):  # noqa: N818 - named for what the caller must tell the provider
    """The entry was not confirmed: the provider has to send it again."""


class Appender:
    """Appends entries to one stream. Made by ``appending``, which keeps its loop running."""

    def __init__(self, server: Redis, stream: str) -> None:
        self._server = server
        self._stream = stream.encode()
        self._waiting: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._sha = b""
        self._closing = False

    @property
    def why_not(self) -> str | None:
        """Why appends are refused right now; None while they are taken."""
        if self._closing:
            return "stopping"
        return None if self._connection is not None else "Redis is away"

    async def append(self, entry: Entry) -> None:
        """Return once Redis has confirmed the entry. Raises NotKept; the entry may then have landed all the same."""
        if self.why_not is not None:
            raise NotKept(self.why_not)
        if len(self._waiting) >= WAITING_ENTRIES:
            raise NotKept("too many entries are waiting")
        fields = [part for pair in entry.to_fields().items() for part in pair]
        confirmed = asyncio.get_running_loop().create_future()
        self._waiting.append((fields, len(entry.payload), confirmed))
        self._arrived.set()
        await confirmed

    async def run(self) -> None:
        """Connect, commit batch after batch, connect again when that fails; until cancelled."""
        try:
            while True:
                await self._connect()
                await self._commit_while_connected()
        finally:
            self._closing = True
            self._refuse(self._take(everything=True), "stopping")

    async def drain(self) -> None:
        """Take no more, and return when what is waiting has been confirmed or refused."""
        self._closing = True
        while self._waiting and self._connection is not None:
            await asyncio.wait([self._waiting[-1][2]])

    async def _connect(self) -> None:
        backoff = Backoff(*RECONNECT_SECONDS)
        while True:
            try:
                await require(self._server, COMMANDS)
                pool: Any = self._server.connection_pool
                connection: AbstractConnection = await pool.get_connection()
                self._sha = (await self._server.script_load(APPEND)).encode()
            except (RedisError, OSError) as exc:
                log.warning("appender.redis_away", error=reason(exc))
                await backoff.wait()
            else:
                self._connection = connection
                log.info("appender.connected", stream=self._stream.decode())
                return

    async def _commit_while_connected(self) -> None:
        while self._connection is not None:
            await self._arrived.wait()
            batch = self._take()
            try:
                await self._commit(self._connection, batch)
            except (RedisConnectionError, RedisTimeoutError, OSError) as exc:
                await self._lose(batch, exc)
            except RedisError as exc:  # an error reply: the connection is sound, the server refused
                self._fail(batch, exc)
            except asyncio.CancelledError:
                self._refuse(batch, "stopping")
                raise
            else:
                for _, _, confirmed in batch:
                    if not confirmed.done():
                        confirmed.set_result(None)

    async def _commit(self, connection: AbstractConnection, batch: Sequence[Waiting]) -> None:
        began = perf_counter()
        arguments = [b"EVALSHA", self._sha, b"1", self._stream]
        for fields, _, _ in batch:
            arguments.append(b"%d" % len(fields))
            arguments.extend(fields)
        packed: bytes = _pack(tuple(arguments))
        try:
            await connection.send_packed_command(packed)
            await connection.read_response()
        except NoScriptError:  # the server forgot its scripts (restart, SCRIPT FLUSH); nothing has run
            await connection.send_command("SCRIPT LOAD", APPEND)
            await connection.read_response()
            await connection.send_packed_command(packed)
            await connection.read_response()
        APPEND_SECONDS.observe(perf_counter() - began)
        APPEND_ENTRIES.observe(len(batch))

    def _take(self, *, everything: bool = False) -> list[Waiting]:
        limit = len(self._waiting) if everything else BATCH_ENTRIES
        size, count = 0, 0
        for _, payload_bytes, _ in islice(self._waiting, limit):
            size += payload_bytes
            if count and size > BATCH_BYTES and not everything:
                break
            count += 1
        batch = [self._waiting.popleft() for _ in range(count)]
        if not self._waiting:
            self._arrived.clear()
        return batch

    async def _lose(self, batch: Sequence[Waiting], exc: Exception) -> None:
        connection, self._connection = self._connection, None
        self._fail([*batch, *self._take(everything=True)], exc)
        if connection is not None:
            with suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
            await self._server.connection_pool.release(connection)

    def _fail(self, batch: Sequence[Waiting], exc: Exception) -> None:
        APPEND_FAILURES.labels(type(exc).__name__).inc()
        log.warning("appender.not_confirmed", entries=len(batch), error=reason(exc))
        self._refuse(batch, "Redis did not confirm it")

    @staticmethod
    def _refuse(batch: Sequence[Waiting], why: str) -> None:
        for _, _, confirmed in batch:
            if not confirmed.done():
                confirmed.set_exception(NotKept(why))


@asynccontextmanager
async def appending(server: Redis, stream: str) -> AsyncIterator[Appender]:
    """Run an appender for the length of the block; at its end what is waiting is confirmed or refused first."""
    appender = Appender(server, stream)
    async with asyncio.TaskGroup() as tasks:
        loop = tasks.create_task(appender.run(), name="appender")
        try:
            yield appender
            await appender.drain()
        finally:
            loop.cancel()
