"""Connections that end at the primary, and find it again when it has moved.

A server that was deposed tells so at the first write (READONLY). Then the connection is closed and the caller sees it
as lost, so whoever connects again does so from the start: by name, or by asking the sentinels. The same goes for a
primary without its replicas (NOREPLICAS, where ``min-replicas-to-write`` is set): it may be deposed and not know it.

redis-py's own Sentinel asks one sentinel after the other, each up to its time limit, trusts the first answer, and goes
back to the old address when a connection that was lost is used again. Here all are asked at once, what most of them say
is tried first, and every new connection asks.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.redis_url import Host, Target
from stream.trouble import Deposed, PrimaryUnknown, code

ASK_SECONDS = 1.0

NOT_PRIMARY = frozenset(("READONLY", "MASTERDOWN", "NOREPLICAS"))


def pool(target: Target, limits: Mapping[str, Any]) -> ConnectionPool:
    """Make the pool of a client. ``limits`` are redis-py's options for every connection, to a sentinel too."""
    found: dict[str, Any] = {}
    if target.sentinels:
        kind: type[AbstractConnection] = FoundTlsConnection if target.scheme == "rediss" else FoundConnection
        found["sentinels"] = Sentinels(target, {**limits, "socket_timeout": ASK_SECONDS})
    else:
        kind = {"redis": PlainConnection, "rediss": TlsConnection, "unix": UnixConnection}[target.scheme]
    return ConnectionPool(kind, **target.options, **limits, **found)


class Sentinels:
    """The sentinels of one service. Each asking has connections of its own, so that none can be half open."""

    def __init__(self, target: Target, limits: Mapping[str, Any]) -> None:
        kind = SSLConnection if target.scheme == "rediss" else Connection
        self._service = target.service
        self._options = [
            {"connection_class": kind, "host": host, "port": port, **target.sentinel_options, **limits}
            for host, port in target.sentinels
        ]

    async def primaries(self) -> Sequence[Host]:
        """Return the addresses that the sentinels name, most named first. Raises PrimaryUnknown after ASK_SECONDS."""
        asking = [asyncio.ensure_future(self._ask(options)) for options in self._options]
        try:
            named, failed = await self._answers(asking)
        finally:
            for one in asking:
                one.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if not named:
            raise PrimaryUnknown(f"no sentinel names a primary of {self._service!r}") from failed
        random.shuffle(named)  # of equals not always the same one first
        return [host for host, _ in Counter(named).most_common()]

    async def _answers(self, asking: Sequence["asyncio.Future[Host | None]"]) -> tuple[list[Host], Exception | None]:
        """Collect answers until more than half of the sentinels agree, all have spoken, or the time is over."""
        named: list[Host] = []
        failed: Exception | None = None
        try:
            async with asyncio.timeout(ASK_SECONDS):
                for answer in asyncio.as_completed(asking):
                    try:
                        if host := await answer:
                            named.append(host)
                    except (RedisError, OSError) as exc:
                        failed = exc
                    if any(2 * times > len(asking) for times in Counter(named).values()):
                        break
        except TimeoutError:
            failed = failed or RedisTimeoutError()
        return named, failed

    async def _ask(self, options: dict[str, Any]) -> Host | None:
        async with Redis.from_pool(ConnectionPool(**options)) as sentinel:
            ask: Any = sentinel.execute_command
            found = await ask("SENTINEL GET-MASTER-ADDR-BY-NAME", self._service)
            return (found[0].decode(), found[1]) if found else None


class _Primary(AbstractConnection):
    """What all connections have in common."""

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read one reply. Raises Deposed, and closes the connection, if it is that of no primary."""
        try:
            return await super().read_response(*args, **options)
        except ResponseError as exc:
            if code(exc) not in NOT_PRIMARY:
                raise
            await self.disconnect(nowait=True)
            raise Deposed(code(exc)) from exc


class PlainConnection(_Primary, Connection):
    """By TCP."""


class TlsConnection(_Primary, SSLConnection):
    """By TLS."""


class UnixConnection(_Primary, UnixDomainSocketConnection):
    """By a socket in the file system."""


class FoundConnection(PlainConnection):
    """By TCP, to the primary that the sentinels name; every new connection asks."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels = sentinels

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect, unless connected. Raises PrimaryUnknown, or what the last address tried gave."""
        if self.is_connected:
            return
        failed: Exception | None = None
        for host, port in await self._sentinels.primaries():
            self.host, self.port = host, port
            try:
                await super().connect_check_health(*args, **options)
            except (RedisConnectionError, RedisTimeoutError) as exc:
                failed = exc
            else:
                return
        raise failed or PrimaryUnknown


class FoundTlsConnection(FoundConnection, TlsConnection):
    """By TLS, to the primary that the sentinels name."""
