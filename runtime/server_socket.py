"""Listening sockets with small kernel buffers for each connection."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from runtime.errors import CommandError

BACKLOG_CONNECTIONS = 1024
RECEIVE_BYTES = 64 * 1024
SEND_BYTES = 16 * 1024  # answers are small

Factory = Callable[[], asyncio.BaseProtocol]


@asynccontextmanager
async def open_listener(
    factory: Factory, hosts: Sequence[str], port: int, *, setting: str, receive_bytes: int = RECEIVE_BYTES
) -> AsyncIterator[asyncio.Server]:
    """Listen on all addresses until the block ends; port 0 picks one for each. Raises CommandError if a port is taken.

    ``setting`` is the name of the port's setting, for the error. ``receive_bytes`` limits the unread data that the
    kernel buffers for a connection; its default is some megabytes. At the end the sockets stop listening; accepted
    connections stay open.
    """
    with _explain_errors(hosts, port, setting):
        server = await _bind(factory, hosts, port, receive_bytes)
        await server.start_serving()
    try:
        yield server
    finally:
        server.close()


async def reserve_port(hosts: Sequence[str], port: int, *, setting: str, receive_bytes: int) -> list[socket.socket]:
    """Return a bound socket for each address, as those of `open_listener`. Nobody listens on them: `join_port` does.

    Raises CommandError if another program uses the port, even if that one would share it.
    """
    with _explain_errors(hosts, port, setting):
        (await _bind(asyncio.Protocol, hosts, port, receive_bytes)).close()
        server = await _bind(asyncio.Protocol, hosts, port, receive_bytes, reuse_port=True)
    try:
        return [socket.socket(fileno=os.dup(listener.fileno())) for listener in server.sockets]
    finally:
        server.close()


def join_port(reserved: Sequence[socket.socket]) -> list[socket.socket]:
    """Return a further socket for each reserved one. The kernel spreads connections over those that listen."""
    return [_copy_socket(bound) for bound in reserved]


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Close the sockets."""
    for each in sockets:
        each.close()


def _copy_socket(bound: socket.socket) -> socket.socket:
    copy = socket.socket(bound.family, bound.type)
    options = [(socket.SOL_SOCKET, socket.SO_REUSEADDR), (socket.SOL_SOCKET, socket.SO_REUSEPORT)]
    if bound.family == socket.AF_INET6:
        options.append((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    for level, option in options:
        copy.setsockopt(level, option, bound.getsockopt(level, option))
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        copy.setsockopt(socket.SOL_SOCKET, option, bound.getsockopt(socket.SOL_SOCKET, option) // 2)  # Linux doubles it
    copy.bind(bound.getsockname())
    return copy


@asynccontextmanager
async def share_sockets(factory: Factory, sockets: Sequence[socket.socket]) -> AsyncIterator[list[asyncio.Server]]:
    """Listen on sockets of `join_port` until the block ends. Other processes may listen on the same ones."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(factory, sock=listener, backlog=BACKLOG_CONNECTIONS) for listener in sockets]
    try:
        yield servers
    finally:
        for server in servers:
            server.close()


async def _bind(
    factory: Factory, hosts: Sequence[str], port: int, receive_bytes: int, *, reuse_port: bool = False
) -> asyncio.Server:
    server = await asyncio.get_running_loop().create_server(
        factory, hosts, port, backlog=BACKLOG_CONNECTIONS, reuse_port=reuse_port, start_serving=False
    )
    for listener in server.sockets:  # accepted sockets inherit these options
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
    return server


@contextmanager
def _explain_errors(hosts: Sequence[str], port: int, setting: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        why = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else str(exc.strerror)
        raise CommandError(
            f"cannot listen on {', '.join(hosts)} port {port} ({why}): stop the program that uses the port, or set "
            f"another with {setting}"
        ) from None


def port_of(server: asyncio.Server) -> int:
    """Return the port that the server listens on."""
    return int(server.sockets[0].getsockname()[1])


def make_local_url(host: str, port: int) -> str:
    """Return the URL under which this machine reaches a process that listens on this address."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on
    return f"http://{f'[{local}]' if ':' in local else local}:{port}"


def is_listening(server: asyncio.Server) -> bool:
    """Whether all sockets of the server still accept connections. uvloop closes a failing one silently."""
    try:
        return all(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for listener in server.sockets)
    except OSError:
        return False
