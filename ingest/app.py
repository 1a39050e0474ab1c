"""Starts and stops the parts of the ingest process in order."""

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
from runtime.metrics import PROCESS
from stream.process_report import encode_report
from stream.redis.client import client, redact_url

log = structlog.get_logger("ingest")

GC_THRESHOLD = 10_000  # objects; a worker's batches create many more, so its threshold is higher
REPLY_SECONDS = 1.0  # a server that does not answer within this time counts as away


async def serve(settings: IngestSettings, stop: asyncio.Event) -> None:
    """Accept webhooks until ``stop``. Then close the ports, answer in-flight requests and store waiting entries."""
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
                    lambda: appender.not_ready_reason if started.is_set() else "starting",
                    settings,
                ).handle,
                settings,
            ) as port,
            health.run_health_server(
                settings.admin_host,
                settings.admin_port,
                lambda: appender.not_ready_reason,
                report=lambda: encode_report(settings),
            ) as admin_port,
        ):
            started.set()
            PROCESS.labels("ingest").set(1)
            redis = redact_url(settings.redis_url)
            log.info("ingest.started", host=settings.host, port=port, admin_port=admin_port, redis=redis)
            if settings.signatures != "required":
                log.warning(
                    "ingest.unsigned",
                    signatures=settings.signatures,
                    meaning="anyone who can reach the port can send statuses",
                )
            _tune_gc()
            await stop.wait()
    finally:
        await server.aclose()
    log.info("ingest.stopped")


def _tune_gc() -> None:
    """Run the cycle collector rarely and exclude permanent objects from it: a request leaves no reference cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
