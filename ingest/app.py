"""Starts and stops the parts of the ingest process in order."""

import asyncio
import gc
import time
from typing import TYPE_CHECKING

import structlog

from ingest.append.message_appender import AnyAppender
from ingest.append.pipeline import open_pipeline
from ingest.auth.policy import Authentication, open_authentication
from ingest.auth.quarantine import Quarantine, open_quarantine
from ingest.http.server import open_endpoint
from ingest.http.webhook import NotReadyReason, Webhook
from ingest.http.webhook_tracing import TracedWebhook
from ingest.settings import IngestSettings
from runtime.children.child import Child, open_admin
from runtime.metrics import PROCESS
from runtime.tracing.process import open_tracing
from stream.process_report import encode_report
from stream.redis.client import client, redact_url

if TYPE_CHECKING:
    from runtime.tracing.tracer import Tracing

log = structlog.get_logger("ingest")

GC_THRESHOLD = 10_000  # objects; a worker's batches create many more, so its threshold is higher
REPLY_SECONDS = 1.0  # a server that does not answer within this time counts as away


async def serve(settings: IngestSettings, stop: asyncio.Event, child: Child | None = None) -> None:
    """Accept webhooks until ``stop``. Then close the ports, answer in-flight requests and store waiting entries.

    A ``child`` has no admin port, takes the webhooks' port from its supervisor, and has its share of the limits.
    """
    settings = settings if child is None else _take_share(settings, child)
    server = client(settings.redis_url, reply_seconds=REPLY_SECONDS)
    started = asyncio.Event()
    try:
        async with (
            open_tracing(settings.tracing, "ackstream-ingest") as tracing,
            open_authentication(settings) as authentication,
            open_quarantine(server, settings) as quarantine,
            open_pipeline(server, settings, tracing) as appender,
            open_endpoint(
                make_webhook(
                    tracing,
                    appender,
                    authentication,
                    quarantine,
                    lambda: appender.not_ready_reason if started.is_set() else "starting",
                    settings,
                ).handle,
                settings,
                child,
            ) as port,
            open_admin(
                settings.admin_host,
                settings.admin_port,
                lambda: appender.not_ready_reason,
                lambda: encode_report(settings),
                child,
            ) as admin_port,
        ):
            started.set()
            PROCESS.labels("ingest").set(1)
            _log_start(settings, port, admin_port)
            _tune_gc()
            await stop.wait()
    finally:
        await server.aclose()
    log.info("ingest.stopped")


def make_webhook(
    tracing: "Tracing | None",
    appender: AnyAppender,
    authentication: Authentication,
    quarantine: Quarantine,
    not_ready_reason: NotReadyReason,
    settings: IngestSettings,
) -> Webhook:
    """Return the object that answers requests. Without ``tracing`` no code of tracing runs for a request."""
    parts = appender, authentication, quarantine, _now_ms, not_ready_reason, settings
    return Webhook(*parts) if tracing is None else TracedWebhook(tracing, *parts)


def _take_share(settings: IngestSettings, child: Child) -> IngestSettings:
    """Return the settings with the child's share of the limits for the machine."""
    shares = {name: child.divide(getattr(settings, name)) for name in ("connections", "spool_bytes")}
    return settings.model_copy(update=shares)


def _log_start(settings: IngestSettings, port: int, admin_port: int | None) -> None:
    redis = redact_url(settings.redis_url)
    log.info("ingest.started", host=settings.host, port=port, admin_port=admin_port, redis=redis)
    if settings.signatures != "required":
        meaning = "anyone who can reach the port can send statuses"
        log.warning("ingest.unsigned", signatures=settings.signatures, meaning=meaning)


def _tune_gc() -> None:
    """Run the cycle collector rarely and exclude permanent objects from it: a request leaves no reference cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
