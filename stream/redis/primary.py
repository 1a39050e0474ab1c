"""Connections to the primary that the sentinels name. They follow it when it moves."""

from collections.abc import Mapping
from typing import Any

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.redis.connection import Tcp, Tls, Unix
from stream.redis.errors import Deposed, PrimaryUnknown
from stream.redis.sentinel import ASK_SECONDS, Sentinels
from stream.redis.url import Target


def make_pool(target: Target, limits: Mapping[str, Any]) -> ConnectionPool:
    """Create a client's connection pool. ``limits`` are redis-py's options for all connections, also to sentinels."""
    if target.sentinels:
        kind: Any = PrimaryTlsConnection if target.scheme == "rediss" else PrimaryConnection
        sentinels = Sentinels(target, {**limits, "reply_seconds": ASK_SECONDS})
        return PrimaryPool(kind, sentinels=sentinels, **target.options, **limits)
    kind = {"redis": Tcp, "rediss": Tls, "unix": Unix}[target.scheme]
    return ConnectionPool(kind, **target.options, **limits)


class PrimaryConnection(Tcp):
    """A TCP connection to the primary that the sentinels name; all connections of a pool lead to the same server.

    Every new connection asks the sentinels. A connection in use asks again in the background every
    LOOK_SECONDS, because a deposed primary may still confirm writes that will be lost. If the sentinels name another
    primary, the connection is closed before its next command.
    """

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels = sentinels

    @property
    def _has_moved(self) -> bool:
        return self._sentinels.primary != (self.host, self.port)

    async def connect(self) -> None:
        """Connect, unless connected to the pool's current primary."""
        if self.is_connected and self._has_moved:
            await self.disconnect(nowait=True)
        await super().connect()  # type: ignore[no-untyped-call]

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect, unless connected. Raises PrimaryUnknown, or the error of the last address that was tried."""
        if self.is_connected:
            return
        failed: Exception | None = None
        for host, port in await self._sentinels.find_primaries():
            self.host, self.port = self._sentinels.primary = host, port
            try:
                await super().connect_check_health(*args, **options)
            except (RedisConnectionError, RedisTimeoutError) as exc:
                failed = exc
            else:
                return
        raise failed or PrimaryUnknown

    def check_primary(self) -> None:
        """Raise Deposed if the sentinels have named another primary. They are asked in the background."""
        self._sentinels.refresh()
        if self._has_moved:
            raise Deposed

    async def check_health(self) -> None:
        """Check before a command that the connection leads to the primary. Raises Deposed."""
        try:
            self.check_primary()
        except Deposed:
            await self.disconnect(nowait=True)
            raise
        await super().check_health()  # type: ignore[no-untyped-call]


class PrimaryTlsConnection(PrimaryConnection, Tls):
    """A TLS connection to the primary that the sentinels name."""


class PrimaryPool(ConnectionPool):
    """A pool of connections to the primary."""

    def __init__(self, *kind: Any, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(*kind, sentinels=sentinels, **options)
        self._sentinels = sentinels

    async def aclose(self) -> None:
        """Close all connections and stop asking the sentinels."""
        await self._sentinels.aclose()
        await super().aclose()
