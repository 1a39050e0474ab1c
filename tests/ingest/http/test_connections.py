"""The open connections of a port, when it stops."""

import asyncio

from aiohttp import web

from ingest.http.connection import Connection
from ingest.http.connections import Connections
from ingest.http.responses import LIVE, Response
from ingest.metrics import CONNECTIONS_CLOSED
from runtime.server_socket import open_listener, port_of
from tests.support.processes import becomes
from tests.support.waiting import PATIENCE_SECONDS

REQUEST = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"


async def respond(request: web.BaseRequest) -> Response:
    """Answer as ingest does: at a stop each answer is the last of its connection."""
    assert isinstance(request.transport, Connection)
    return LIVE.last if request.transport.is_stopping else LIVE


async def test_a_patient_stop_answers_the_next_request_of_an_idle_connection() -> None:
    """A patient stop closes the connection after that answer, and ends as soon as no connection is open."""
    connections = Connections(8, PATIENCE_SECONDS, PATIENCE_SECONDS, CONNECTIONS_CLOSED)
    server = web.Server(respond)
    async with open_listener(lambda: Connection(connections, server()), ["127.0.0.1"], 0, setting="") as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(listener))
        await becomes(lambda: len(connections) == 1)

        stop = asyncio.create_task(connections.drain(2 * PATIENCE_SECONDS, 2 * PATIENCE_SECONDS))
        await becomes(lambda: connections.is_stopping)
        writer.write(REQUEST)
        async with asyncio.timeout(PATIENCE_SECONDS):
            received = await reader.read()
            writer.close()
            await stop

    await server.shutdown()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close" in received
