"""aiohttp's low-level server, set up for webhooks: https://docs.aiohttp.org/en/stable/web_lowlevel.html."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from traceback import extract_tb

import structlog
from aiohttp import http_parser, web
from aiohttp.http import HttpProcessingError

from ingest.http.connection import Connection
from ingest.http.connections import Connections
from ingest.http.descriptors import room_for
from ingest.http.responses import replace_error
from ingest.settings import IngestSettings
from runtime.errors import Refusal
from runtime.server_socket import open_listener, port_of
from stream.redis.client import describe_error

log = structlog.get_logger("ingest")

HEADERS = 64  # of 8 KiB each
BUFFER_BYTES = 16 * 1024  # of a body that is not read yet; at twice as many the connection is not read
SPARE_SECONDS = 60.0  # after the connection's own keep-alive time, which comes first
CANCEL_SECONDS = 1.0
CHECK_SECONDS = 5.0
CHECK = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\nGET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
ANSWERS = re.compile(rb"(HTTP/1.1 200 OK\r\n(Content-\S+ \S+\r\n|Connection: close\r\n|Date: .*\r\n)+\r\nlive\n){2}")

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class FaultLog(logging.Handler):
    """Reports faults that aiohttp logs, by class and place: its own text may quote what the client sent."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, unless it is about a malformed request, whose answer is logged."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            report_fault(error)
        if error is not None:
            error.__traceback__ = None  # its frames hold what was sent, and the error itself: a reference cycle


def report_fault(error: BaseException | None) -> None:
    """Log a fault of ours or of aiohttp's, without its text."""
    frames = extract_tb(error.__traceback__) if error is not None else []
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    log.error("ingest.failed", error=describe_error(error) if error is not None else "?", at=place, sampled=True)


@asynccontextmanager
async def open_endpoint(handle: Handle, settings: IngestSettings) -> AsyncIterator[int]:
    """Take requests while the block runs; yields the port. Then answer what is in flight, for ``grace_seconds``.

    Raises Refusal if the port is taken, or if a request of our own is not answered as it must be.
    """
    connections = Connections(
        _fit_connections(settings.connections), settings.client_seconds, settings.keepalive_seconds, replace_error
    )
    server = _make_server(handle, settings.keepalive_seconds)

    def connect() -> Connection:
        return Connection(connections, server())

    async with (
        asyncio.TaskGroup() as tasks,
        open_listener(
            connect, settings.hosts, settings.port, setting="ACKSTREAM_PORT (--port)", receive_bytes=settings.max_body
        ) as listener,
    ):
        watch = tasks.create_task(connections.watch(listener), name="connections")
        try:
            await check_listener(listener)
            yield port_of(listener)
        finally:
            listener.close()
            await asyncio.sleep(0)  # what has come by now is in flight
            await connections.drain(settings.grace_seconds)
            watch.cancel()
            connections.abort_all()
            await asyncio.sleep(0)  # aiohttp hears of it, and what waits for a request ends
            await server.shutdown(CANCEL_SECONDS)


def _make_server(handle: Handle, keepalive_seconds: float) -> web.Server:
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise Refusal(
            "aiohttp runs without its parser in C, and the other one is slower and less strict: "
            "unset AIOHTTP_NO_EXTENSIONS, or install aiohttp from a wheel"
        )
    logger = logging.getLogger("ingest.http")
    logger.setLevel(logging.DEBUG)  # at which aiohttp logs a malformed first request
    logger.handlers, logger.propagate = [FaultLog()], False
    return web.Server(
        handle,
        access_log=None,
        logger=logger,
        keepalive_timeout=keepalive_seconds + SPARE_SECONDS,
        lingering_time=0,
        max_headers=HEADERS,
        read_bufsize=BUFFER_BYTES,
        auto_decompress=False,  # a compressed body is refused, never inflated
    )


def _fit_connections(wanted: int) -> int:
    most = room_for(wanted)
    if most < wanted:
        log.warning("ingest.few_descriptors", connections=most, wanted=wanted, what="raise the limit of open files")
    return most


async def check_listener(listener: asyncio.Server) -> None:
    """Send two requests through the own port. Raises Refusal unless both are answered as they must be."""
    family, address = listener.sockets[0].family, listener.sockets[0].getsockname()
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            reader, writer = await asyncio.open_connection(*address[:2], family=family)
            writer.write(CHECK)
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError) as exc:
        answer = type(exc).__name__.encode()
    if not ANSWERS.fullmatch(answer):
        raise Refusal(
            f"a request to the own port {address[1]} was not answered as it must be (aiohttp {version('aiohttp')}): "
            "install a version that Ackstream allows (pip install 'aiohttp>=3.14.5,<4'), or look for a firewall"
        )
