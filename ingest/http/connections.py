"""The open connections: how many there may be, and how long a client may keep one waiting.

A client owes a whole request head ``client_seconds`` after it has connected, or after the first byte of a later
request, and as soon has to take its answer. One that does not is cut off. (The body's deadline is `ingest.body`'s,
idle connections end by aiohttp's keep-alive.) All are looked at once every ``SWEEP_SECONDS``: no timer, no task for
each.

There may be so many at a time. One more always gets in, and the one that has been of no use for the longest has to go:
whose connect, or last webhook kept, is longest ago. Refusing the new one instead would let whoever holds that many
sockets lock the provider out; this way its connections, old and new, are the last to be hit, and a request that is
sent right after the connect is answered before its turn comes.
"""

import asyncio
from collections import OrderedDict
from typing import Any, Protocol, cast

from runtime.metrics import CONNECTIONS, CONNECTIONS_CLOSED
from runtime.server_socket import listens

SWEEP_SECONDS = 0.5
AT_ONCE = 50
READ_BYTES = 16 * 1024
HEAD_BYTES = 32 * 1024  # of a head that comes in pieces
UNSENT_BYTES = 8 * 1024  # of answers that wait for the client; beyond them its next request waits too


class Handler(Protocol):
    """What speaks HTTP on a connection, as far as it is looked at here."""

    @property
    def waits_for_head(self) -> bool:
        """Whether it has no request in hand."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As in asyncio.Protocol, like the others."""

    def data_received(self, data: bytes) -> None: ...  # noqa: D102
    def eof_received(self) -> bool | None: ...  # noqa: D102
    def pause_writing(self) -> None: ...  # noqa: D102
    def resume_writing(self) -> None: ...  # noqa: D102
    def connection_lost(self, exc: BaseException | None) -> None: ...  # noqa: D102


class Connection(asyncio.BufferedProtocol):
    """One client's connection: hands everything on, and remembers since when the client owes something.

    It is read in small pieces, into one buffer for all. uvloop's own are of 256 KB, and the requests that a client has
    sent ahead stay in memory until their turn comes: with many such clients that is much.
    """

    __slots__ = ("_connections", "_handler", "_head_bytes", "_head_since", "_loop", "_transport", "_unread_since")

    def __init__(self, connections: "Connections", handler: Handler) -> None:
        self._connections = connections
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._head_bytes = 0
        self._head_since: float | None = None
        self._unread_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it on; another one may have to go."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self._head_since = self._loop.time()
        self._handler.connection_made(transport)
        self._connections.add(transport, self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's interface
        """Return where to put what comes."""
        return self._connections.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand it on; then the client owes the rest of a head, or nothing."""
        self._handler.data_received(bytes(self._connections.buffer[:nbytes]))
        if not self._handler.waits_for_head:
            self._head_since = None
            return
        if self._head_since is None:
            self._head_since, self._head_bytes = self._loop.time(), 0
        self._head_bytes += nbytes
        if self._head_bytes > HEAD_BYTES:
            self._connections.give_up(self._transport, "head")

    def eof_received(self) -> bool | None:
        """Hand it on."""
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        """Hand it on; the client owes it to take its answers."""
        self._unread_since = self._loop.time()
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """Hand it on."""
        self._unread_since = None
        self._handler.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        self._connections.discard(self._transport)
        self._handler.connection_lost(exc)

    def overdue(self, now: float, client_seconds: float) -> str | None:
        """Return what the client should have done by now, None if it owes nothing."""
        if self._unread_since is None and self._transport.is_closing():
            self._unread_since = now  # all is said; what is still open now waits for the client to take it
        if self._unread_since is not None and now - self._unread_since >= client_seconds:
            return "answer"
        if self._head_since is not None and now - self._head_since >= client_seconds and self._handler.waits_for_head:
            return "head"
        return None


class Connections:
    """All that are open, the one that was of use last at the end."""

    def __init__(self, most: int, client_seconds: float) -> None:
        self._most = most
        self._client_seconds = client_seconds
        self.buffer = memoryview(bytearray(READ_BYTES))
        self._open: OrderedDict[Any, Connection] = OrderedDict()
        CONNECTIONS.set_function(lambda: len(self._open))

    def add(self, transport: asyncio.BaseTransport, connection: Connection) -> None:
        """Count it in. If there are too many now, the one that is of use least has to go."""
        self._open[transport] = connection
        if len(self._open) > self._most:
            self.give_up(next(iter(self._open)), "room")

    def discard(self, transport: asyncio.BaseTransport) -> None:
        """Count it out."""
        self._open.pop(transport, None)

    def was_of_use(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that a webhook that came by it was kept."""
        if transport in self._open:
            self._open.move_to_end(transport)

    def give_up(self, transport: asyncio.Transport, why: str) -> None:
        """Cut it off."""
        CONNECTIONS_CLOSED.labels(why).inc()
        self.discard(transport)
        transport.abort()

    def give_up_all(self) -> None:
        """Cut off what is still open at the end."""
        for transport in list(self._open):
            transport.abort()

    async def watch(self, server: asyncio.Server) -> None:
        """Cut off the overdue ones, until cancelled. Raises ListenerLost when no more come in."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if not listens(server):
                raise ListenerLost
            now, given_up = loop.time(), 0
            for transport, connection in list(self._open.items()):
                if (why := connection.overdue(now, self._client_seconds)) is not None:
                    self.give_up(transport, why)
                    given_up += 1
                    if given_up % AT_ONCE == 0:
                        await asyncio.sleep(0)  # those who came together go together; let others be served meanwhile


class ListenerLost(Exception):  # noqa: N818 - named for what happened
    """The port is no longer open, though nobody closed it: the process has to be started again."""
