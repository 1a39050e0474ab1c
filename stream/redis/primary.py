"""Connections that end at the primary that the sentinels name, and find it again when it has moved."""

from collections.abc import Mapping
from typing import Any

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.redis.connection import Tcp, Tls, Unix
from stream.redis.errors import Deposed, PrimaryUnknown
from stream.redis.sentinel import ASK_SECONDS, Sentinels
from stream.redis.url import Target


def pool(target: Target, limits: Mapping[str, Any]) -> ConnectionPool:
    """Make the pool of a client. ``limits`` are redis-py's options for every connection, to a sentinel too."""
    if target.sentinels:
        found = FoundTlsConnection if target.scheme == "rediss" else FoundConnection
        sentinels = Sentinels(target, {**limits, "reply_seconds": ASK_SECONDS})
        return FoundPool(found, sentinels=sentinels, **target.options, **limits)
    kind: Any = {"redis": Tcp, "rediss": Tls, "unix": Unix}[target.scheme]
    return ConnectionPool(kind, **target.options, **limits)


class FoundConnection(Tcp):
    """By TCP, to the primary that the sentinels name; all of a pool lead to the same one.

    Every new connection asks them. One that is in use asks now and then by the way, for a deposed primary that has not
    heard of it confirms what is lost; where they name another, it ends before its next command.
    """

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels = sentinels

    @property
    def _has_moved(self) -> bool:
        return self._sentinels.found != (self.host, self.port)

    async def connect(self) -> None:
        """Connect, unless connected to where the others lead."""
        if self.is_connected and self._has_moved:
            await self.disconnect(nowait=True)
        await super().connect()  # type: ignore[no-untyped-call]

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect, unless connected. Raises PrimaryUnknown, or what the last address tried gave."""
        if self.is_connected:
            return
        failed: Exception | None = None
        for host, port in await self._sentinels.primaries():
            self.host, self.port = self._sentinels.found = host, port
            try:
                await super().connect_check_health(*args, **options)
            except (RedisConnectionError, RedisTimeoutError) as exc:
                failed = exc
            else:
                return
        raise failed or PrimaryUnknown

    def check_primary(self) -> None:
        """Raise Deposed if the sentinels have named another; they are asked now and then, beside this."""
        self._sentinels.look()
        if self._has_moved:
            raise Deposed

    async def check_health(self) -> None:
        """Before a command: see that it goes to the primary. Raises Deposed."""
        try:
            self.check_primary()
        except Deposed:
            await self.disconnect(nowait=True)
            raise
        await super().check_health()  # type: ignore[no-untyped-call]


class FoundTlsConnection(FoundConnection, Tls):
    """By TLS, to the primary that the sentinels name."""


class FoundPool(ConnectionPool):
    """A pool of these."""

    def __init__(self, *kind: Any, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(*kind, sentinels=sentinels, **options)
        self._sentinels = sentinels

    async def aclose(self) -> None:
        """Close all connections, and ask no more."""
        await self._sentinels.aclose()
        await super().aclose()
