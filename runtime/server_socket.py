"""Listening sockets with small kernel buffers for each connection."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

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
    try:
        server = await asyncio.get_running_loop().create_server(
            factory, hosts, port, backlog=BACKLOG_CONNECTIONS, start_serving=False
        )
        for listener in server.sockets:  # accepted sockets inherit these options
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        await server.start_serving()
    except OSError as exc:
        why = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else str(exc.strerror)
        raise CommandError(
            f"cannot listen on {', '.join(hosts)} port {port} ({why}): stop the program that uses the port, or set "
            f"another with {setting}"
        ) from None
    try:
        yield server
    finally:
        server.close()


def port_of(server: asyncio.Server) -> int:
    """Return the port that the server listens on."""
    return int(server.sockets[0].getsockname()[1])


def is_listening(server: asyncio.Server) -> bool:
    """Whether all sockets of the server still accept connections. uvloop closes a failing one silently."""
    try:
        return all(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for listener in server.sockets)
    except OSError:
        return False
