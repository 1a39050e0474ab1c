"""Serves ``/live``, ``/ready``, ``/metrics`` and ``/settings`` of a process on its admin port."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

from runtime.metrics import READ_AT
from runtime.server_socket import open_listener, port_of

log = structlog.get_logger("health")

MAX_CONNECTIONS = 32  # beyond these the oldest is closed, so that they cannot use up the process's open-file limit

CONSOLE_AGENT = "ackstream-console"
"""The User-Agent of the web console, whose readings start no alert."""
OPTIONS: Any = {"access_log": None, "keepalive_timeout": 15.0}

Ready = Callable[[], str | None]


class _Refusal(web.Response):
    """An error without a body. aiohttp's own one quotes the client and names versions."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send it. aiohttp then closes the connection."""
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        if request.transport is not None:
            request.transport.write(head.encode())

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` has sent everything."""


class _RequestHandler(web.RequestHandler):
    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's interface
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - quotes the client
    ) -> web.StreamResponse:
        """Return the answer to a malformed request (400) or after an error of ours (500)."""
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("health.failed", error=type(exc).__name__)
        refusal = _Refusal(status=status)
        refusal.force_close()
        return refusal


def _make_app(ready: Ready, registry: CollectorRegistry, report: Callable[[], bytes] | None) -> web.Application:
    """Return the application with all routes."""

    async def is_live(_request: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def is_ready(_request: web.Request) -> web.Response:
        reason = ready()
        return web.Response(text="ready\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def metrics(request: web.Request) -> web.Response:
        if request.headers.get("User-Agent") != CONSOLE_AGENT:
            READ_AT.set_to_current_time()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def settings(_request: web.Request) -> web.Response:
        if report is None:
            raise web.HTTPNotFound
        return web.Response(body=report(), content_type="application/json")

    app = web.Application()
    app.on_response_prepare.append(_remove_server_header)
    answers = {"/live": is_live, "/ready": is_ready, "/metrics": metrics, "/settings": settings}
    app.add_routes([web.get(path, answer) for path, answer in answers.items()])
    return app


@asynccontextmanager
async def run_health_server(
    host: str,
    port: int,
    ready: Ready,
    registry: CollectorRegistry = REGISTRY,
    report: Callable[[], bytes] | None = None,
) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port (0 asks for a free one). Raises CommandError if the port is taken.

    ``/live`` is 200. ``/ready`` is 200 if ``ready()`` returns None, else 503 with the reason. ``/metrics`` has the
    metrics of the registry, as text or as OpenMetrics, which also has exemplars; ``/settings`` has the JSON that
    ``report`` returns.
    """
    runner = web.AppRunner(_make_app(ready, registry, report), shutdown_timeout=1.0)
    await runner.setup()
    server = runner.server
    assert server is not None  # noqa: S101 - it is set up

    def make_handler() -> asyncio.BaseProtocol:
        for oldest in server.connections[: 1 - MAX_CONNECTIONS]:
            oldest.force_close()
        return _RequestHandler(server, loop=asyncio.get_running_loop(), **OPTIONS)

    try:
        async with open_listener(make_handler, [host], port, setting="ACKSTREAM_ADMIN_PORT") as listener:
            yield port_of(listener)
    finally:
        await runner.cleanup()


async def _remove_server_header(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)
