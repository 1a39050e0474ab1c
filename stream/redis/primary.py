"""Connections to a primary whose address others know: sentinels, or the nodes of a cluster. They follow it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.redis.connection import Tcp, Tls
from stream.redis.errors import Deposed, PrimaryUnknown
from stream.redis.url import Host


class Locator(ABC):
    """Finds a primary."""

    primary: Host | None = None
    """The last known primary, to which the pool's connections lead."""

    @abstractmethod
    async def find_primaries(self) -> Sequence[Host]:
        """Return the addresses that are named as the primary, most votes first. Raises PrimaryUnknown."""

    @abstractmethod
    def refresh(self) -> None:
        """Look in the background, now and then, whether the primary has moved, if it does not say so itself."""

    @abstractmethod
    async def aclose(self) -> None:
        """Stop looking."""


class PrimaryConnection(Tcp):
    """A TCP connection to the primary that the locator finds; all connections of a pool lead to the same server.

    Every new connection asks the locator. A connection in use lets it look in the background, because a deposed primary
    may still confirm writes that will be lost. If the primary has moved, the connection is closed before its next
    command.
    """

    def __init__(self, *, locator: Locator, **options: Any) -> None:
        super().__init__(**options)
        self._locator = locator

    @property
    def _has_moved(self) -> bool:
        return self._locator.primary != (self.host, self.port)

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
        for host, port in await self._locator.find_primaries():
            self.host, self.port = self._locator.primary = host, port
            try:
                await super().connect_check_health(*args, **options)
            except (RedisConnectionError, RedisTimeoutError) as exc:
                failed = exc
            else:
                return
        raise failed or PrimaryUnknown

    def check_primary(self) -> None:
        """Raise Deposed if the primary is known to have moved. The locator looks in the background."""
        self._locator.refresh()
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
    """A TLS connection to the primary that the locator finds."""


class PrimaryPool(ConnectionPool):
    """A pool of connections to the primary."""

    def __init__(self, *kind: Any, locator: Locator, **options: Any) -> None:
        super().__init__(*kind, locator=locator, **options)
        self._locator = locator

    async def aclose(self) -> None:
        """Close all connections and stop looking for the primary."""
        await self._locator.aclose()
        await super().aclose()
