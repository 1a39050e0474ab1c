"""Clients for Redis and Valkey, and checks of the commands that a server has.

Replies are bytes in RESP2 shapes. The client never retries a command: a timed-out XADD has often reached the server, so
the caller decides. Every wait has a limit, and TCP keepalive detects a peer that vanished.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime.errors import CommandError
from stream.redis.cluster import ClusterClient, ClusterPool
from stream.redis.cluster_nodes import ClusterNodes, SlotConnection, SlotTlsConnection
from stream.redis.connection import Tcp, Tls, Unix
from stream.redis.errors import error_code
from stream.redis.limited_client import CONNECT_SECONDS, REPLY_SECONDS, Client
from stream.redis.primary import PrimaryConnection, PrimaryPool, PrimaryTlsConnection
from stream.redis.sentinel import Sentinels
from stream.redis.url import SERVER_PORT, Host, Target
from stream.redis.votes import ASK_SECONDS

STALL_SECONDS = 0.1
"""A timer that is this late shows that the process was paused. Replies get this time after it."""
MOST_STALLS = 5

# TCP closes a connection, idle or with unconfirmed data, when its peer has not answered for this time.
GONE_SECONDS = 15
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": GONE_SECONDS * 1000}
KEEPALIVE = {getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)}


@asynccontextmanager
async def limit_wait(seconds: float) -> AsyncIterator[None]:
    """Limit the time of a block that waits for Redis. Raises redis.exceptions.TimeoutError.

    If this process itself was late, because the machine had no time for it, it first reads the replies that have
    arrived.
    """
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def expire(due: float) -> None:
        now = loop.time()
        if now - due >= STALL_SECONDS and len(timers) <= MOST_STALLS:
            start(now + STALL_SECONDS)
        else:
            limit.reschedule(now)

    def start(due: float) -> None:
        timers.append(loop.call_at(due, expire, due))

    try:
        async with asyncio.timeout(None) as limit:
            start(loop.time() + seconds)
            try:
                yield
            finally:
                timers[-1].cancel()
    except TimeoutError:
        raise RedisTimeoutError("no answer within the limit") from None


class ServerUnfit(CommandError):  # noqa: N818 - named for what is wrong
    """The server lacks a command that this process needs."""


def client(url: str, *, reply_seconds: float = REPLY_SECONDS) -> Redis:
    """Open a client on a URL that stream.redis.url describes, without connecting. Raises ValueError.

    ``reply_seconds`` limits the wait for a reply; a blocking read needs more than its BLOCK. A command that reaches no
    server raises redis.exceptions.ConnectionError or TimeoutError. A command that reaches a server that is not the
    primary closes its connection and raises stream.redis.errors.Deposed. Behind sentinels each new connection asks for
    the primary, and a connection in use notices when the primary has moved. On a cluster each command goes to the node
    that has its keys (stream.redis.cluster). A client never raises OSError: a lost socket is a ConnectionError.
    """
    target = Target.from_url(url)
    pool = _make_pool(target, _limits(target, reply_seconds))
    redis = ClusterClient(pool) if isinstance(pool, ClusterPool) else Client(connection_pool=pool)
    redis.auto_close_connection_pool = True
    redis.limit_seconds = ASK_SECONDS + CONNECT_SECONDS + reply_seconds
    return redis


def _make_pool(target: Target, limits: dict[str, Any]) -> ConnectionPool:
    is_tls, asking = target.scheme == "rediss", {**limits, "reply_seconds": ASK_SECONDS}
    if target.sentinels:
        kind: Any = PrimaryTlsConnection if is_tls else PrimaryConnection
        return PrimaryPool(kind, locator=Sentinels(target, asking), **target.options, **limits)
    if target.nodes:
        kind = SlotTlsConnection if is_tls else SlotConnection
        return ClusterPool(kind, ClusterNodes(target, asking), **target.options, **limits)
    kind = {"redis": Tcp, "rediss": Tls, "unix": Unix}[target.scheme]
    return ConnectionPool(kind, **target.options, **limits)


async def find_servers(url: str) -> Sequence[Host]:
    """Return the addresses of the servers that a URL leads to: one server, or the primaries of a cluster.

    Behind sentinels this is the address that most of them name. Raises RedisError if nobody names a server.
    """
    target = Target.from_url(url)
    limits = _limits(target, ASK_SECONDS)
    if target.sentinels:
        return (await Sentinels(target, limits).find_primaries())[:1]
    if target.nodes:
        return sorted(await ClusterNodes(target, limits).find_primaries())
    return [(target.options.get("host", "localhost"), target.options.get("port", SERVER_PORT))]


def _limits(target: Target, reply_seconds: float) -> dict[str, Any]:
    """Return redis-py's options for all connections, also those to sentinels."""
    limits: dict[str, Any] = {
        "protocol": 2,
        "decode_responses": False,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": None,  # see stream.redis.connection
        "reply_seconds": reply_seconds,
        "health_check_interval": 30,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,  # CLIENT SETINFO would need another permission
    }
    if target.scheme != "unix":
        limits |= {"socket_keepalive": True, "socket_keepalive_options": KEEPALIVE}
    return limits


async def find_commands(server: Redis, commands: Iterable[str]) -> frozenset[str]:
    """Return the ``commands`` that the server has; none of them if this user may not run COMMAND INFO."""
    names = tuple(commands)
    try:
        # One string: redis-py parses the reply of COMMAND in another shape if the two words are separate arguments.
        ask: Any = server.execute_command
        replies = await ask("COMMAND INFO", *names)
    except NoPermissionError:
        return frozenset()
    return frozenset(name for name, reply in zip(names, replies, strict=True) if reply)


async def require_commands(server: Redis, commands: Iterable[str]) -> None:
    """Raise ServerUnfit, which names the missing ones, unless the server has all ``commands``."""
    required = frozenset(commands)
    if missing := required - await find_commands(server, required):
        names = ", ".join(sorted(missing))
        raise ServerUnfit(
            f"the Redis server has no {names}, or this user may not run COMMAND INFO: "
            "Ackstream needs Redis 7.0, Valkey 8, or later"
        )


def redact_url(url: str) -> str:
    """Return a Redis or database URL for the log: without user, password and options."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    if parts.netloc and "@" not in parts.netloc and "@" in url:  # an unescaped character in the password
        return f"{parts.scheme}://…"
    return f"{parts.scheme}://{hosts}{parts.path}"


def describe_error(exc: BaseException) -> str:
    """Name an error and its causes, without their texts, because texts of database errors quote values."""
    chain: list[str] = []
    cause: BaseException | None = exc
    while cause is not None and len(chain) < 4:  # noqa: PLR2004 - enough to reach the driver's own error
        chain.append(name_error(cause))
        cause = cause.__cause__
    return " < ".join(chain)


def name_error(exc: BaseException) -> str:
    """Name an error without its text: its class, and for an error reply of Redis its code."""
    return f"{type(exc).__name__}({error_code(exc)})" if error_code(exc) else type(exc).__name__


def keep_raw(server: Redis, command: str) -> None:
    """Let a client return the replies to this command unparsed."""
    server.set_response_callback(command, lambda response, **_options: response)
