"""A TCP server of a test that leaves neither a task nor a connection behind."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_TURNS_TO_CLOSE = 5
"""How many turns of the loop asyncio takes to hand over an accepted connection, or to close one, with some to spare."""


@asynccontextmanager
async def run_listener(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Listen on a free port of 127.0.0.1, serve each connection by one call, and yield the port.

    At the end the calls are cancelled and their connections reset, also those that were accepted and not yet served.

    Raises:
        ExceptionGroup: Calls ended with something other than OSError.

    """
    connections: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = []

    async def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append((asyncio.get_running_loop().create_task(call(reader, writer)), writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await _turn_loop()
        for task, _ in connections:
            task.cancel()
        results = await asyncio.gather(*(task for task, _ in connections), return_exceptions=True)
        for _, writer in connections:
            with suppress(AttributeError):  # Python before 3.11.3 cannot abort a closed connection that uses TLS
                writer.transport.abort()
        await _turn_loop()
    if errors := [result for result in results if isinstance(result, Exception) and not isinstance(result, OSError)]:
        raise ExceptionGroup("connections of the test's server failed", errors)


async def _turn_loop() -> None:
    for _ in range(_TURNS_TO_CLOSE):
        await asyncio.sleep(0)
