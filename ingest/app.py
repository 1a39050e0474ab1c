"""The HTTP side's process: routes, and what starts and stops in which order."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from ingest.keeping import keeping
from ingest.settings import IngestSettings
from ingest.webhook import Webhook
from stream import health
from stream.connect import client, shown

log = structlog.get_logger("ingest")

KEEPALIVE_SECONDS = 75.0
REPLY_SECONDS = 1.0  # a server that is silent for longer is away


async def serve(settings: IngestSettings, stop: asyncio.Event) -> None:
    """Take webhooks until ``stop``. Then: close the ports, answer what is in hand, keep what is waiting."""
    settings.refuse_signatures()
    server = client(settings.redis_url, reply_seconds=REPLY_SECONDS)
    try:
        async with (
            keeping(server, settings) as appender,
            health.serving(settings.admin_host, settings.admin_port, lambda: appender.why_not) as admin_port,
            _listening(Webhook(appender, _now_ms, settings.max_body), settings) as port,
        ):
            log.info(
                "ingest.started",
                port=port,
                admin_port=admin_port,
                redis=shown(settings.redis_url),
            )
            log.warning(
                "ingest.unsigned",
                signatures="off",
                meaning="whoever reaches the port can send statuses",
            )
            await stop.wait()
    finally:
        await server.aclose()
    log.info("ingest.stopped")


@asynccontextmanager
async def _listening(webhook: Webhook, settings: IngestSettings) -> AsyncIterator[int]:
    app = web.Application(client_max_size=settings.max_body)
    for path in settings.routes:
        app.router.add_post(path, webhook.handle)
        app.router.add_get(path, webhook.handle, allow_head=False)
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,  # a compressed body is answered 415, never inflated
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=settings.grace_seconds,
    )
    await runner.setup()
    try:
        yield await health.listen(runner, settings.host, settings.port)
    finally:
        await runner.cleanup()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
