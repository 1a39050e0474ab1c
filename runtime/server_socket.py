"""Opening a port, with little memory of the kernel for each connection."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from runtime.errors import Refusal

BACKLOG_CONNECTIONS = 1024
RECEIVE_BYTES = 64 * 1024
SEND_BYTES = 16 * 1024  # answers are small

Factory = Callable[[], asyncio.BaseProtocol]


@asynccontextmanager
async def listening(
    factory: Factory, host: str, port: int, *, receive_bytes: int = RECEIVE_BYTES
) -> AsyncIterator[asyncio.Server]:
    """Listen until the block ends; port 0 takes a free one. Raises Refusal if it cannot be had.

    ``receive_bytes`` is how much of what a client sends the kernel keeps while nobody reads it; its own limit is some
    megabytes for each connection. At the end no new connection is taken; those that are open stay so.
    """
    try:
        server = await asyncio.get_running_loop().create_server(
            factory, host, port, backlog=BACKLOG_CONNECTIONS, start_serving=False
        )
        for one in server.sockets:  # what they accept is like them
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        await server.start_serving()
    except OSError as exc:
        raise Refusal(f"cannot listen on {host}:{port} ({exc.strerror}): free it, or set another") from None
    try:
        yield server
    finally:
        server.close()


def port_of(server: asyncio.Server) -> int:
    """Return the port that it listens on."""
    return int(server.sockets[0].getsockname()[1])


def listens(server: asyncio.Server) -> bool:
    """Whether all its sockets still take connections: uvloop closes one that fails, without a word."""
    try:
        return all(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for one in server.sockets)
    except OSError:
        return False
