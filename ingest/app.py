"""The HTTP side's process: what starts and stops in which order."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import http_parser, web

from ingest.append.pipeline import open_pipeline
from ingest.auth.policy import authenticating
from ingest.auth.quarantine import Limits, quarantining
from ingest.http.connections import Connection, Connections
from ingest.http.descriptors import room_for
from ingest.http.server import Handler
from ingest.http.webhook import Webhook
from ingest.settings import IngestSettings
from runtime import health
from runtime.errors import Refusal
from runtime.server_socket import listening, port_of
from stream.redis.client import client, shown

log = structlog.get_logger("ingest")

GARBAGE = (
    10_000  # containers made and not yet dropped, before the collector looks; far fewer than a worker's batches make
)
REPLY_SECONDS = 1.0  # a server that is silent for longer is away


async def serve(settings: IngestSettings, stop: asyncio.Event) -> None:
    """Take webhooks until ``stop``. Then: close the ports, answer what is in hand, keep what is waiting."""
    _require_parser()
    server = client(settings.redis_url, reply_seconds=REPLY_SECONDS)
    limits = Limits(settings.quarantine_entries, settings.quarantine_bytes)
    connections = Connections(_room(settings.connections), settings.client_seconds)
    try:
        async with (
            authenticating(settings) as authentication,
            quarantining(server, settings.shard.quarantine, limits) as quarantine,
            open_pipeline(server, settings) as appender,
            _listening(
                Webhook(appender, authentication, quarantine, connections, _now_ms, settings), connections, settings
            ) as port,
            health.serving(settings.admin_host, settings.admin_port, lambda: appender.why_not) as admin_port,
        ):
            log.info(
                "ingest.started",
                port=port,
                admin_port=admin_port,
                redis=shown(settings.redis_url),
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


def _require_parser() -> None:
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise Refusal(
            "aiohttp runs without its parser in C, and the other one is slower and less strict: "
            "unset AIOHTTP_NO_EXTENSIONS, or install aiohttp from a wheel"
        )


def _room(wanted: int) -> int:
    fits = room_for(wanted)
    if fits < wanted:
        log.warning("ingest.few_descriptors", connections=fits, wanted=wanted, what="raise the limit of open files")
    return fits


@asynccontextmanager
async def _listening(webhook: Webhook, connections: Connections, settings: IngestSettings) -> AsyncIterator[int]:
    server = web.Server(webhook.handle)

    def connection() -> Connection:
        return Connection(connections, Handler(server))

    async with (
        asyncio.TaskGroup() as tasks,
        listening(connection, settings.host, settings.port, receive_bytes=settings.max_body) as listener,
    ):
        watch = tasks.create_task(connections.watch(listener), name="connections")
        try:
            yield port_of(listener)
        finally:
            listener.close()
            await asyncio.sleep(0)  # what has come by now is in hand
            server.pre_shutdown()
            await server.shutdown(settings.grace_seconds)
            connections.give_up_all()
            watch.cancel()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
