"""The HTTP side's process: what starts and stops in which order."""

import asyncio
import gc
import time

import structlog

from ingest.append.pipeline import open_pipeline
from ingest.auth.policy import open_authentication
from ingest.auth.quarantine import open_quarantine
from ingest.http.server import open_endpoint
from ingest.http.webhook import Webhook
from ingest.settings import IngestSettings
from runtime import health
from stream.redis.client import client, redact_url

log = structlog.get_logger("ingest")

GARBAGE = (
    10_000  # containers made and not yet dropped, before the collector looks; far fewer than a worker's batches make
)
REPLY_SECONDS = 1.0  # a server that is silent for longer is away


async def serve(settings: IngestSettings, stop: asyncio.Event) -> None:
    """Take webhooks until ``stop``. Then: close the ports, answer what is in flight, store what is waiting."""
    server = client(settings.redis_url, reply_seconds=REPLY_SECONDS)
    started = asyncio.Event()
    try:
        async with (
            open_authentication(settings) as authentication,
            open_quarantine(server, settings) as quarantine,
            open_pipeline(server, settings) as appender,
            open_endpoint(
                Webhook(
                    appender,
                    authentication,
                    quarantine,
                    _now_ms,
                    lambda: appender.why_not if started.is_set() else "starting",
                    settings,
                ).handle,
                settings,
            ) as port,
            health.run_health_server(settings.admin_host, settings.admin_port, lambda: appender.why_not) as admin_port,
        ):
            started.set()
            log.info(
                "ingest.started",
                host=settings.host,
                port=port,
                admin_port=admin_port,
                redis=redact_url(settings.redis_url),
            )
            if settings.signatures != "required":
                log.warning(
                    "ingest.unsigned",
                    signatures=settings.signatures,
                    meaning="whoever reaches the port can send statuses",
                )
            _collect_less()
            await stop.wait()
    finally:
        await server.aclose()
    log.info("ingest.stopped")


def _collect_less() -> None:
    """Look for garbage in circles rarely, and never in what stays for good: a request leaves none."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
