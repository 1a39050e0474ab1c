"""Limits the number of open connections and the time of slow clients, of ingest's port and of the console's.

A client has ``client_seconds`` for a whole request head, counted from its first byte, and as long to read an answer. An
idle connection is closed after ``keepalive_seconds``. One sweep every ``SWEEP_SECONDS`` checks all connections, so that
a connection needs no timer. (The deadline of a body is in `ingest.http.body`.)

A new connection is always accepted. Beyond the limit the least recently useful connection is closed: the one that
connected, or was last of use (sent a stored webhook, or a request of a person who is signed in), the longest time ago.
If new connections were refused instead, a client that holds all connections could lock the others out. A connection
that is kept, because a person who is signed in waits for an answer on it, is not closed for others; at most half of all
are kept.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from prometheus_client import Counter

from ingest.http.connection import Connection
from runtime.server_socket import is_listening

SWEEP_SECONDS = 0.5
DRAIN_SECONDS = 0.02  # between two checks during a stop
FAREWELL_SECONDS = 0.2  # for requests that were sent before the client saw the close
CLOSES_AT_ONCE = 50
READ_BYTES = 16 * 1024

ReplaceError = Callable[[bytes], bytes]
"""Returns the bytes to send instead of aiohttp's own error response."""


class Connections:
    """All open connections, at most ``limit``, the most recently useful one last.

    Closed ones are counted in ``closed`` by their reason. With ``replace_error`` the bytes that aiohttp writes are
    replaced; without it they are sent.
    """

    def __init__(
        self,
        limit: int,
        client_seconds: float,
        keepalive_seconds: float,
        closed: Counter,
        replace_error: ReplaceError | None = None,
    ) -> None:
        self._limit = limit
        self._client_seconds = client_seconds
        self._keepalive_seconds = keepalive_seconds
        self._closed = closed
        self.replace_error = replace_error
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.is_stopping = False
        self._open: OrderedDict[Connection, None] = OrderedDict()
        self._kept: set[Connection] = set()

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    def add(self, connection: Connection) -> None:
        """Add a connection, and close the least recently useful one that is not kept if there are too many."""
        self._open[connection] = None
        if len(self._open) > self._limit:
            self.give_up(next(each for each in self._open if each not in self._kept), "room")

    @contextmanager
    def keep(self, connection: Connection) -> Iterator[None]:
        """Do not close a connection for a new one while the block runs, unless half of all are kept already."""
        if len(self._kept) < self._limit / 2:
            self._kept.add(connection)
        try:
            yield
        finally:
            self._kept.discard(connection)
            self.move_to_end(connection)

    def discard(self, connection: Connection) -> None:
        """Remove a closed connection."""
        self._open.pop(connection, None)

    def move_to_end(self, connection: Connection) -> None:
        """Mark a connection as the most recently useful one."""
        if connection in self._open:
            self._open.move_to_end(connection)

    def give_up(self, connection: Connection, why: str) -> None:
        """Close a connection at once, and count the reason."""
        self._closed.labels(why).inc()
        self.discard(connection)
        connection.abort()

    async def drain(self, seconds: float, patience_seconds: float = 0) -> None:
        """Close each connection as soon as it is idle. Return when the clients have closed too.

        For ``patience_seconds`` idle ones stay open, and their next answer is the last of the connection. Takes at most
        ``seconds``, and at most FAREWELL_SECONDS once all connections are idle.
        """
        self.is_stopping = True
        loop = asyncio.get_running_loop()
        impatient_at = loop.time() + patience_seconds
        deadline = loop.time() + seconds
        while self._open and loop.time() < deadline:
            is_patient = loop.time() < impatient_at
            busy = [connection for connection in self._open if is_patient or connection.is_busy]
            for connection in self._open.keys() - busy:
                connection.end()
            if not busy:
                deadline = min(deadline, loop.time() + FAREWELL_SECONDS)
            await asyncio.sleep(DRAIN_SECONDS)

    def abort_all(self) -> None:
        """Close all remaining connections at once."""
        for connection in list(self._open):
            connection.abort()

    async def watch(self, *servers: asyncio.Server) -> NoReturn:
        """Close overdue connections until cancelled. Raises ListenerLost if the port stops accepting connections."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if not all(map(is_listening, servers)):
                raise ListenerLost
            closed, now = 0, loop.time()
            for connection in list(self._open):
                why = connection.find_overdue(now, self._client_seconds, self._keepalive_seconds)
                if why is not None:
                    self._close_overdue(connection, why)
                    closed += 1
                    if closed % CLOSES_AT_ONCE == 0:
                        await asyncio.sleep(0)  # many may be overdue at once; let other tasks run

    def _close_overdue(self, connection: Connection, why: str) -> None:
        if why == "idle":
            connection.end()
        elif why == "ended":
            connection.abort()
        else:
            self.give_up(connection, why)


class ListenerLost(Exception):  # noqa: N818 - named for what happened
    """The port stopped accepting connections by itself. The process has to be restarted."""
