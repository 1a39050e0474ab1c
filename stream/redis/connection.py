"""redis-py's connections with a limit for each send and each reply, and one kind of error for every lost connection.

redis-py's own limit for a send (``socket_timeout``) runs ``asyncio.wait_for``, which makes a task of each command and
before Python 3.12 can lose a cancellation: https://github.com/python/cpython/issues/86296. So it is not set, and the
limits here are ``asyncio.timeout``.

A server that was deposed says so at the first write (READONLY). Then the connection is closed and the caller sees it as
lost, so the next one that connects looks for the primary from the start: by name, or by asking the sentinels. The same
goes for a primary without its replicas (NOREPLICAS, where ``min-replicas-to-write`` is set): it may be deposed and not
know it.

uvloop raises a RuntimeError at a write to a connection that the peer has reset, where asyncio's own loop raises nothing
and the next read finds the end. redis-py does not know that error.
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
    """``reply_seconds`` bounds each send and each reply. Whatever ends one early closes the connection."""

    def __init__(self, *, reply_seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._reply_seconds = reply_seconds

    def pack_command(self, *args: Any) -> list[bytes]:
        """Pack with hiredis, which takes a thousand ids in a fourth of the time."""
        name, *rest = args
        words = name.encode().split() if isinstance(name, str) else name.split()
        return [pack_command((*words, *rest))]

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Send one or more commands. Raises redis.exceptions.ConnectionError or TimeoutError; then it is closed."""
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
            raise RedisTimeoutError("the server takes nothing more") from None
        except RuntimeError as exc:
            raise RedisConnectionError("the connection is closed") from exc

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read one reply. Raises redis.exceptions.ConnectionError, TimeoutError or Deposed; then it is closed."""
        try:
            async with asyncio.timeout(self._reply_seconds):
                return await super().read_response(*args, **options)
        except TimeoutError:
            raise RedisTimeoutError("the server does not answer") from None
        except ResponseError as exc:
            await self._require_primary(exc)
            raise

    async def send_unbounded(self, packed: bytes) -> None:
        """Send a command on an open connection, for a caller with a limit of its own. Raises RedisError."""
        if not self.is_connected:  # redis-py would connect it again
            raise RedisConnectionError("the connection is closed")
        try:
            await super().send_packed_command(packed, check_health=False)
        except RuntimeError as exc:
            raise RedisConnectionError("the connection is closed") from exc

    async def read_unbounded(self) -> Any:
        """Read one reply, for a caller with a limit of its own. Raises RedisError."""
        try:
            return await super().read_response()
        except ResponseError as exc:
            await self._require_primary(exc)
            raise

    async def _require_primary(self, exc: ResponseError) -> None:
        """Close the connection and raise Deposed if this is the error of a server that is not the primary."""
        if error_code(exc) in NOT_PRIMARY:
            await self.disconnect(nowait=True)
            raise Deposed(error_code(exc)) from exc

    def check_primary(self) -> None:
        """Raise Deposed if this connection is known not to lead to a primary any more. Asks nobody."""


class Tcp(_Bounded, Connection):
    """By TCP."""


class Tls(_Bounded, SSLConnection):
    """By TLS."""


class Unix(_Bounded, UnixDomainSocketConnection):
    """By a socket in the file system."""
