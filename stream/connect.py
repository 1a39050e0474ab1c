"""Clients for Redis and Valkey, and what the server behind them can do.

Reads are bytes, replies have RESP2 shapes, nothing is retried behind the caller's back: a timed-out XADD has often
landed, so whoever sent it decides. Every wait is bounded.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError

from stream.refusal import Refusal

CONNECT_SECONDS = 3.0
REPLY_SECONDS = 5.0


class ServerUnfit(Refusal):
    """The server cannot do what this process needs."""


def client(url: str, *, reply_seconds: float = REPLY_SECONDS) -> Redis:
    """Open a client on a ``redis://``, ``rediss://`` or ``unix://`` URL; no connection is made yet.

    ``reply_seconds`` bounds every reply; a blocking read needs more than its BLOCK. A command that finds no server
    raises redis.exceptions.ConnectionError or TimeoutError at once.
    """
    made: Redis = Redis.from_url(
        url,
        protocol=2,
        decode_responses=False,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=reply_seconds,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,  # CLIENT SETINFO would need a permission of its own
    )
    return made


async def abilities(server: Redis, commands: Iterable[str]) -> frozenset[str]:
    """Return those of ``commands`` that the server has. One that does not let us ask has none."""
    asked = tuple(commands)
    try:
        # One string: redis-py reads COMMAND's reply in a shape of its own when it sees the two words apart.
        ask: Any = server.execute_command
        described = await ask("COMMAND INFO", *asked)
    except NoPermissionError:
        return frozenset()
    return frozenset(name for name, found in zip(asked, described, strict=True) if found)


async def require(server: Redis, commands: Iterable[str]) -> None:
    """Raise ServerUnfit, in one sentence, if the server lacks one of ``commands``."""
    wanted = frozenset(commands)
    if missing := wanted - await abilities(server, wanted):
        names = ", ".join(sorted(missing))
        raise ServerUnfit(
            f"the Redis server has no {names}, or this user may not ask (COMMAND INFO): "
            "Ackstream needs Redis 7.0, Valkey 8, or later"
        )


def shown(url: str) -> str:
    """Return the URL without its user, password and options, fit for a log."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def names(exc: BaseException) -> str:
    """Name an error and what caused it, without their texts: those of databases quote values."""
    chain: list[str] = []
    cause: BaseException | None = exc
    while cause is not None and len(chain) < 4:  # noqa: PLR2004 - enough to see the driver's own error
        chain.append(reason(cause))
        cause = cause.__cause__
    return " < ".join(chain)


def reason(exc: BaseException) -> str:
    """Name an error without its text: the class, and of Redis the error code."""
    words = str(exc).split(maxsplit=1)
    if isinstance(exc, RedisError) and words and words[0].isupper() and words[0].isalpha():
        return f"{type(exc).__name__}({words[0]})"
    return type(exc).__name__
