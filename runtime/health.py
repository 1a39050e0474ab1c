"""Serves ``/live``, ``/ready`` and ``/metrics`` of a process on its admin port."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from runtime.server_socket import open_listener, port_of

MAX_CONNECTIONS = 32  # beyond these the oldest is closed, so that they cannot use up the process's open-file limit

Ready = Callable[[], str | None]


@asynccontextmanager
async def run_health_server(host: str, port: int, ready: Ready) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port (0 asks for a free one). Raises CommandError if the port is taken.

    ``/live`` is 200 while the event loop runs. ``/ready`` is 200 if ``ready()`` returns None, else 503 with the reason
    that it returns.
    """

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def is_ready(_request: web.Request) -> web.Response:
        reason = ready()
        return web.Response(text="ready\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.on_response_prepare.append(_remove_server_header)
    app.add_routes([web.get("/live", live), web.get("/ready", is_ready), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=15.0, shutdown_timeout=1.0)
    await runner.setup()
    server = runner.server
    assert server is not None  # noqa: S101 - it is set up

    def make_handler() -> asyncio.BaseProtocol:
        for oldest in server.connections[: 1 - MAX_CONNECTIONS]:
            oldest.force_close()
        return server()

    try:
        async with open_listener(make_handler, [host], port, setting="ACKSTREAM_ADMIN_PORT") as listener:
            yield port_of(listener)
    finally:
        await runner.cleanup()


async def _remove_server_header(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)
