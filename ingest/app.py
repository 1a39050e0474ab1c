"""The HTTP side's process: what starts and stops in which order, and aiohttp's handler of a connection."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from traceback import extract_tb
from typing import Any, cast

import structlog
from aiohttp import http_parser, web
from aiohttp.http import HttpProcessingError

from ingest.authentication import authenticating
from ingest.body import Broken
from ingest.connections import Connection, Connections
from ingest.descriptors import room_for
from ingest.keeping import keeping
from ingest.quarantine import Limits, quarantining
from ingest.settings import IngestSettings
from ingest.webhook import Webhook
from stream import health
from stream.connect import client, names, shown
from stream.listening import listening, port_of
from stream.metrics import WEBHOOKS
from stream.refusal import Refusal

log = structlog.get_logger("ingest")

KEEPALIVE_SECONDS = 75.0
LINGER_SECONDS = 2.0  # for the rest of a body that was refused, so that the client sees its answer
HEADERS = 64  # of 8 KiB each
AHEAD_REQUESTS = 2  # that a client may have sent while one is in hand; aiohttp's own limit is 32, bodies and all
BUFFER_BYTES = 16 * 1024  # of a body that is not read yet; at twice as many the connection is not read
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
            keeping(server, settings) as appender,
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
            await stop.wait()
    finally:
        await server.aclose()
    log.info("ingest.stopped")


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


class Handler(web.RequestHandler):
    """aiohttp's handler of a connection: with limits, one answer to what is malformed, and few words about it."""

    __slots__ = ("_broken",)

    def __init__(self, server: web.Server) -> None:
        self._broken = False
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=cast("Any", None),
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            read_bufsize=BUFFER_BYTES,
        )
        self._max_msg_queue_size, self._msg_queue_resume_size = AHEAD_REQUESTS, AHEAD_REQUESTS // 2
        self._parser = http_parser.HttpRequestParser(
            self,
            asyncio.get_running_loop(),
            BUFFER_BYTES,
            max_headers=HEADERS,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,  # a compressed body is answered 415, never inflated
            max_msg_queue_size=AHEAD_REQUESTS,
        )

    @property
    def waits_for_head(self) -> bool:
        """Whether it has no request in hand."""
        waits = self._waiter is not None and not self._waiter.done()
        return waits or not self._request_count  # at first its loop has not begun to wait

    def data_received(self, data: bytes) -> None:
        """Parse it, up to the first error. A body whose framing breaks ends there; aiohttp lets its reader wait on."""
        if self._broken:
            return
        super().data_received(data)
        error = getattr(self._messages[-1][0], "exc", None) if self._messages else None
        if error is None:
            return
        self._broken = True
        error.__traceback__ = None  # its frames hold what was sent, and the error itself: a circle
        if (request := self._current_request) is not None and not request.content.is_eof():
            request.content.set_exception(Broken())
            request.content.feed_eof()
            self._end()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes what the client has sent
    ) -> web.StreamResponse:
        """Answer with the bare status, and close; of the error only its class and place are told."""
        if self.transport is None and isinstance(exc, OSError):
            raise ConnectionResetError from exc  # the client is gone, and that is all
        if exc is not None and not isinstance(exc, HttpProcessingError):
            log.error("ingest.failed", error=names(exc), at=_place(exc), sampled=True)
        WEBHOOKS.labels(str(status)).inc()
        self._end()
        if request.writer.output_size:
            raise ConnectionResetError("half an answer has gone out")
        response = web.Response(status=status)
        response.force_close()
        return response

    def _end(self) -> None:
        """Take no more requests; the answer that is made now is the last one."""
        self.close()
        if self.transport is not None:
            self.transport = cast("asyncio.Transport", _Lingering(self.transport))


class _Lingering:
    """A transport that, told to close, ends what it sends but goes on reading for a while.

    The kernel answers what comes to a closed socket with a reset, and the reset can take the last answer with it.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def close(self) -> None:
        if not self._transport.is_closing():
            self._transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.abort)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _place(exc: BaseException) -> str:
    frames = extract_tb(exc.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
