"""Clients for Redis and Valkey, and what the server behind them can do.

Reads are bytes, replies have RESP2 shapes, nothing is retried behind the caller's back: a timed-out XADD has often
landed, so whoever sent it decides. Every wait is bounded; a peer that is gone without a word is noticed by TCP as well.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime.errors import Refusal
from stream.redis import primary
from stream.redis.errors import error_code
from stream.redis.sentinel import ASK_SECONDS
from stream.redis.url import Target

CONNECT_SECONDS = 3.0
REPLY_SECONDS = 5.0

# A connection whose peer does not answer any more, idle or with unconfirmed data, is given up by TCP after this time.
GONE_SECONDS = 15
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": GONE_SECONDS * 1000}
KEEPALIVE = {getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)}


@asynccontextmanager
async def limit_wait(seconds: float) -> AsyncIterator[None]:
    """Bound a block that waits for Redis. Raises redis.exceptions.TimeoutError."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise RedisTimeoutError("no answer within the limit") from None


class ServerUnfit(Refusal):
    """The server cannot do what this process needs."""


class Client(Redis):
    """redis-py's client, with a limit for a whole command: finding the server, connecting, logging in, the reply."""

    limit_seconds = ASK_SECONDS + CONNECT_SECONDS + REPLY_SECONDS

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute one command. Raises redis.exceptions.TimeoutError when the limit is reached."""
        try:  # not limit_wait: this is for every command
            async with asyncio.timeout(self.limit_seconds):
                return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except TimeoutError:
            raise RedisTimeoutError("no answer within the limit") from None


def client(url: str, *, reply_seconds: float = REPLY_SECONDS) -> Redis:
    """Open a client on a URL that stream.redis.url describes; no connection is made yet. Raises ValueError.

    ``reply_seconds`` bounds every reply; a blocking read needs more than its BLOCK. A command that finds no server
    raises redis.exceptions.ConnectionError or TimeoutError at once. One that meets a server that is no primary closes
    its connection and raises stream.redis.errors.Deposed; behind sentinels each new connection asks for the primary,
    and one in use notices when it has moved. No OSError leaves a client: a lost socket is a ConnectionError.
    """
    target = Target.from_url(url)
    limits: dict[str, Any] = {
        "protocol": 2,
        "decode_responses": False,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": None,  # see stream.redis.connection
        "reply_seconds": reply_seconds,
        "health_check_interval": 30,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,  # CLIENT SETINFO would need a permission of its own
    }
    if target.scheme != "unix":
        limits |= {"socket_keepalive": True, "socket_keepalive_options": KEEPALIVE}
    made = Client(connection_pool=primary.pool(target, limits))
    made.auto_close_connection_pool = True
    made.limit_seconds = ASK_SECONDS + CONNECT_SECONDS + reply_seconds
    return made


async def find_commands(server: Redis, commands: Iterable[str]) -> frozenset[str]:
    """Return those of ``commands`` that the server has. One that does not let us ask has none."""
    asked = tuple(commands)
    try:
        # One string: redis-py reads COMMAND's reply in a shape of its own when it sees the two words apart.
        ask: Any = server.execute_command
        described = await ask("COMMAND INFO", *asked)
    except NoPermissionError:
        return frozenset()
    return frozenset(name for name, found in zip(asked, described, strict=True) if found)


async def require_commands(server: Redis, commands: Iterable[str]) -> None:
    """Raise ServerUnfit, in one sentence, if the server lacks one of ``commands``."""
    wanted = frozenset(commands)
    if missing := wanted - await find_commands(server, wanted):
        names = ", ".join(sorted(missing))
        raise ServerUnfit(
            f"the Redis server has no {names}, or this user may not ask (COMMAND INFO): "
            "Ackstream needs Redis 7.0, Valkey 8, or later"
        )


def redact_url(url: str) -> str:
    """Return a Redis or database URL without its user, password and options, fit for a log."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    if parts.netloc and "@" not in parts.netloc and "@" in url:  # a password that should have been percent-encoded
        return f"{parts.scheme}://…"
    return f"{parts.scheme}://{hosts}{parts.path}"


def describe_error(exc: BaseException) -> str:
    """Name an error and what caused it, without their texts: those of databases quote values."""
    chain: list[str] = []
    cause: BaseException | None = exc
    while cause is not None and len(chain) < 4:  # noqa: PLR2004 - enough to see the driver's own error
        chain.append(name_error(cause))
        cause = cause.__cause__
    return " < ".join(chain)


def name_error(exc: BaseException) -> str:
    """Name an error without its text: the class, and of Redis the error code."""
    return f"{type(exc).__name__}({error_code(exc)})" if error_code(exc) else type(exc).__name__


def keep_raw(server: Redis, command: str) -> None:
    """Make a client give the replies to this command as the server sends them."""
    server.set_response_callback(command, lambda response, **_options: response)
