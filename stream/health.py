"""``/live``, ``/ready`` and ``/metrics`` of any process, on a port of their own."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from stream.refusal import Refusal

Ready = Callable[[], str | None]


async def listen(runner: web.AppRunner, host: str, port: int) -> int:
    """Open the port and return its number; 0 asks for a free one. Raises Refusal if it cannot be had."""
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
    except OSError as exc:
        raise Refusal(f"cannot listen on {host}:{port} ({exc.strerror}): free it, or set another") from None
    return int(runner.addresses[0][1])


@asynccontextmanager
async def serving(host: str, port: int, ready: Ready) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port (0 asks for a free one). Raises Refusal if it is taken.

    ``/live`` is 200 while the loop turns. ``/ready`` is 200 when ``ready()`` gives None, else 503 with what it gives.
    """

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def is_ready(_request: web.Request) -> web.Response:
        why_not = ready()
        return web.Response(text="ready\n") if why_not is None else web.Response(status=503, text=f"{why_not}\n")

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes(
        [
            web.get("/live", live),
            web.get("/ready", is_ready),
            web.get("/metrics", metrics),
        ]
    )
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=15.0, shutdown_timeout=1.0)
    await runner.setup()
    try:
        yield await listen(runner, host, port)
    finally:
        await runner.cleanup()
