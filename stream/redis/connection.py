"""redis-py's connections, which tell of their end in one way whichever event loop runs, and lose no cancellation.

uvloop raises a RuntimeError at a write to a connection that the peer has reset, where asyncio's own loop raises nothing
and the next read finds the end. redis-py knows nothing of that error, and whoever waits for Redis would end by it.

redis-py sends by ``asyncio.wait_for``, which makes a task of each command, and before Python 3.12 forgets that it was
cancelled when that task has just ended: https://github.com/python/cpython/issues/86296
"""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError


class _Told(AbstractConnection):
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
        packed = command.encode() if isinstance(command, str) else command
        writer: asyncio.StreamWriter | None = cast("Any", self._writer)
        try:
            if writer is None:
                raise ConnectionResetError  # noqa: TRY301 - another task has closed it while this one asked for its health
            writer.writelines([packed] if isinstance(packed, bytes) else packed)
            async with asyncio.timeout(self.socket_timeout):
                await writer.drain()
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("the server takes nothing more") from None
        except (OSError, RuntimeError) as exc:
            await self.disconnect(nowait=True)
            raise RedisConnectionError("the connection is closed") from exc
        except BaseException:
            await self.disconnect(nowait=True)  # a part may be sent, and a reply would be taken for another's
            raise

    def hand_over(self, protocol: asyncio.Protocol) -> asyncio.StreamWriter:
        """Give away the connection as it stands, logged in: what comes by it goes to this protocol from now on.

        So several commands may be under way at once, where redis-py waits for each reply. To redis-py it is not
        connected any more. A writer that is forgotten closes it.
        """
        writer: asyncio.StreamWriter = cast("Any", self._writer)
        writer.transport.set_protocol(protocol)
        self._reader = self._writer = None
        return writer


class Tcp(_Told, Connection):
    """By TCP."""


class Tls(_Told, SSLConnection):
    """By TLS."""


class Unix(_Told, UnixDomainSocketConnection):
    """By a socket in the file system."""
