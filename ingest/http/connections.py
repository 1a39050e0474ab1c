"""All open connections: how many there may be, and how long a client may keep one waiting.

A client has ``client_seconds`` for a whole request head, counted from its first byte, and as long to take an answer. A
connection on which nothing is under way may stay for ``keepalive_seconds``. One sweep every ``SWEEP_SECONDS`` looks at
all of them, so that a connection needs no timer. (The deadline of a body is in `ingest.http.body`.)

A new connection always gets in. When there are too many, the one is closed whose connect, or last stored webhook, is
longest ago. Refusing the new one instead would let anyone who holds all the places lock the provider out.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import NoReturn

from ingest.http.connection import Connection
from ingest.metrics import CONNECTIONS, CONNECTIONS_CLOSED
from runtime.server_socket import is_listening

SWEEP_SECONDS = 0.5
DRAIN_SECONDS = 0.02  # between two looks at a stop
FAREWELL_SECONDS = 0.2  # for requests that cross with a close
CLOSES_AT_ONCE = 50
READ_BYTES = 16 * 1024

ReplaceError = Callable[[int], bytes]
"""Returns the bytes to send instead of an answer that aiohttp makes itself, by the status of that answer."""


class Connections:
    """All open connections, the one that was of use last at the end. At most ``most`` are open at a time."""

    def __init__(self, most: int, client_seconds: float, keepalive_seconds: float, replace_error: ReplaceError) -> None:
        self._most = most
        self._client_seconds = client_seconds
        self._keepalive_seconds = keepalive_seconds
        self.replace_error = replace_error
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.is_stopping = False
        self._open: OrderedDict[Connection, None] = OrderedDict()
        CONNECTIONS.set_function(lambda: len(self._open))

    def add(self, connection: Connection) -> None:
        """Count it in, and close the least useful one if there are too many."""
        self._open[connection] = None
        if len(self._open) > self._most:
            self.give_up(next(iter(self._open)), "room")

    def discard(self, connection: Connection) -> None:
        """Count it out."""
        self._open.pop(connection, None)

    def move_to_end(self, connection: Connection) -> None:
        """Note that it was of use."""
        if connection in self._open:
            self._open.move_to_end(connection)

    def give_up(self, connection: Connection, why: str) -> None:
        """Close it at once, and count why."""
        CONNECTIONS_CLOSED.labels(why).inc()
        self.discard(connection)
        connection.abort()

    async def drain(self, seconds: float) -> None:
        """Close all as soon as they are idle. Return when the clients have closed too.

        That takes at most ``seconds``, and once all are idle at most FAREWELL_SECONDS more.
        """
        self.is_stopping = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._open and loop.time() < deadline:
            busy = [connection for connection in self._open if connection.is_busy]
            for connection in self._open.keys() - busy:
                connection.end()
            if not busy:
                deadline = min(deadline, loop.time() + FAREWELL_SECONDS)
            await asyncio.sleep(DRAIN_SECONDS)

    def abort_all(self) -> None:
        """Close what is still open at the end."""
        for connection in list(self._open):
            connection.abort()

    async def watch(self, server: asyncio.Server) -> NoReturn:
        """Close what is overdue, until cancelled. Raises ListenerLost when the port takes no connections any more."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if not is_listening(server):
                raise ListenerLost
            closed, now = 0, loop.time()
            for connection in list(self._open):
                why = connection.find_overdue(now, self._client_seconds, self._keepalive_seconds)
                if why is not None:
                    self._close_overdue(connection, why)
                    closed += 1
                    if closed % CLOSES_AT_ONCE == 0:
                        await asyncio.sleep(0)  # clients that came together are overdue together; others go on

    def _close_overdue(self, connection: Connection, why: str) -> None:
        if why == "idle":
            connection.end()
        elif why == "ended":
            connection.abort()
        else:
            self.give_up(connection, why)


class ListenerLost(Exception):  # noqa: N818 - named for what happened
    """The port takes no connections any more, though nobody closed it: the process has to be started again."""
