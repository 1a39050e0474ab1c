"""redis-py's connections with a time limit for each send and each reply, and one error type for lost connections.

redis-py's own limit for a send (``socket_timeout``) uses ``asyncio.wait_for``, which creates a task for each command
and before Python 3.12 can lose a cancellation: https://github.com/python/cpython/issues/86296. So it is not set, and
the limits here use ``asyncio.timeout``.

A deposed primary answers the first write with READONLY. The connection is then closed and the caller gets a connection
error, so the next connection looks for the primary again, by name or through the sentinels. A primary without its
replicas (NOREPLICAS, with ``min-replicas-to-write``) is treated alike, because it may be deposed without knowing.

uvloop raises RuntimeError at a write to a connection that the peer has reset; asyncio's own loop raises nothing, and
the next read fails. redis-py does not handle the RuntimeError.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.redis.errors import Deposed, error_code

NOT_PRIMARY = frozenset(("READONLY", "MASTERDOWN", "NOREPLICAS"))


class _Bounded(AbstractConnection):
    """Limits each send and each reply to ``reply_seconds``. Any error closes the connection."""

    def __init__(self, *, reply_seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._reply_seconds = reply_seconds

    def pack_command(self, *args: Any) -> list[bytes]:
        """Pack with hiredis, which takes a quarter of the time for a command with a thousand ids."""
        name, *rest = args
        words = name.encode().split() if isinstance(name, str) else name.split()
        return [pack_command((*words, *rest))]

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Send commands. Raises redis.exceptions.ConnectionError or TimeoutError, and closes the connection."""
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        if not self.is_connected:
            raise RedisConnectionError("another task has closed the connection")
        try:
            async with asyncio.timeout(self._reply_seconds):
                await super().send_packed_command(command, check_health=False)
        except TimeoutError:
            raise RedisTimeoutError("the server does not read") from None
        except RuntimeError as exc:
            raise RedisConnectionError("the connection is closed") from exc

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply. Raises redis.exceptions.ConnectionError, TimeoutError or Deposed, and closes the connection."""
        try:
            async with asyncio.timeout(self._reply_seconds):
                return await super().read_response(*args, **options)
        except TimeoutError:
            raise RedisTimeoutError("the server does not answer") from None
        except ResponseError as exc:
            await self._require_primary(exc)
            raise

    async def send_unbounded(self, packed: bytes) -> None:
        """Send a command on an open connection without a limit; the caller sets one. Raises RedisError."""
        if not self.is_connected:  # redis-py would reconnect
            raise RedisConnectionError("the connection is closed")
        try:
            await super().send_packed_command(packed, check_health=False)
        except RuntimeError as exc:
            raise RedisConnectionError("the connection is closed") from exc

    async def read_unbounded(self) -> Any:
        """Read a reply without a limit; the caller sets one. Raises RedisError."""
        try:
            return await super().read_response()
        except ResponseError as exc:
            await self._require_primary(exc)
            raise

    async def _require_primary(self, exc: ResponseError) -> None:
        """Close the connection and raise Deposed if the error says that the server is not the primary."""
        if error_code(exc) in NOT_PRIMARY:
            await self.disconnect(nowait=True)
            raise Deposed(error_code(exc)) from exc

    def check_primary(self) -> None:
        """Raise Deposed if the primary is known to have moved. Does no I/O; without sentinels nothing is known."""


class Tcp(_Bounded, Connection):
    """A TCP connection."""


class Tls(_Bounded, SSLConnection):
    """A TLS connection."""


class Unix(_Bounded, UnixDomainSocketConnection):
    """A connection through a Unix domain socket."""
