"""Serves the console's application on its port.

The limits of connections are those of ingest (ingest.http.connections): their number, the time and size of a request's
head, and the time of a client that does not read its answer. A connection with a request of a person who is signed in,
such as a live stream, is not closed for a new one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from console.web.access.guard import IDENTITY, GuardedHandler
from console.web.metrics.gauges import CONNECTIONS, CONNECTIONS_CLOSED
from console.web.settings import ConsoleSettings
from ingest.http.connection import Connection
from ingest.http.connections import Connections
from ingest.http.descriptors import raise_fd_limit
from runtime.server_socket import open_listener, port_of
from runtime.tasks import cancel_and_wait

MOST_CONNECTIONS = 1000
CLIENT_SECONDS = 30.0
KEEPALIVE_SECONDS = 30.0
SPARE_SECONDS = 60.0
"""Added to aiohttp's keep-alive time, so that the limit of ``Connections`` applies first."""
STOP_SECONDS = 2.0
HEADERS = 64


@web.middleware
async def limit_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Report the request to its connection."""
    connection = request.transport
    if not isinstance(connection, Connection):  # the client has gone
        return await handler(request)
    connection.start_request(request.content, is_chunked=hdrs.TRANSFER_ENCODING in request.headers)
    try:
        return await handler(request)
    finally:
        connection.finish_request(is_last=not request.content.is_eof())  # the rest of a body is not read


@web.middleware
async def keep_connection(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep the connection of a person who is signed in while the request is answered; it comes after the guard."""
    connection = request.transport
    if IDENTITY not in request or not isinstance(connection, Connection):
        return await handler(request)
    with connection.connections.keep(connection):
        return await handler(request)


@asynccontextmanager
async def open_site(app: web.Application, settings: ConsoleSettings) -> AsyncIterator[int]:
    """Serve the application while the block runs; yields the port. Raises CommandError if the port is taken."""
    runner = web.AppRunner(app, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    server = runner.server
    assert server is not None  # noqa: S101 - it is set up
    connections = Connections(raise_fd_limit(MOST_CONNECTIONS), CLIENT_SECONDS, KEEPALIVE_SECONDS, CONNECTIONS_CLOSED)
    CONNECTIONS.set_function(lambda: len(connections))
    loop = asyncio.get_running_loop()

    def connect() -> Connection:
        http = GuardedHandler(
            server,
            loop=loop,
            keepalive_timeout=KEEPALIVE_SECONDS + SPARE_SECONDS,
            lingering_time=0,
            max_headers=HEADERS,
            access_log=None,  # type: ignore[arg-type]  # the documented value for no access log
        )
        return Connection(connections, http)

    try:
        async with open_listener(
            connect, settings.hosts, settings.console_port, setting="ACKSTREAM_CONSOLE_PORT (--port)"
        ) as listener:
            watch = asyncio.create_task(connections.watch(listener), name="connections")
            try:
                yield port_of(listener)
            finally:
                await cancel_and_wait([watch])
    finally:
        await runner.cleanup()
        connections.abort_all()
        await asyncio.sleep(0)  # aiohttp sees the closed connections, and its idle handlers end
        await server.shutdown(STOP_SECONDS)
