"""redis-py's connections, which tell of their end in one way whichever event loop runs.

uvloop raises a RuntimeError at a write to a connection that the peer has reset, where asyncio's own loop raises nothing
and the next read finds the end. redis-py knows nothing of that error, and whoever waits for Redis would end by it.
"""

from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError


class _Told(AbstractConnection):
    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        """Send one or more commands. Raises redis.exceptions.ConnectionError if the connection is gone."""
        try:
            await super().send_packed_command(*args, **options)
        except RuntimeError as exc:
            await self.disconnect(nowait=True)
            raise RedisConnectionError("the connection is closed") from exc


class Tcp(_Told, Connection):
    """By TCP."""


class Tls(_Told, SSLConnection):
    """By TLS."""


class Unix(_Told, UnixDomainSocketConnection):
    """By a socket in the file system."""
