"""aiohttp's low-level server, set up for webhooks: https://docs.aiohttp.org/en/stable/web_lowlevel.html."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from traceback import extract_tb
from typing import cast

import structlog
from aiohttp import http_parser, web
from aiohttp.http import HttpProcessingError

from ingest.http.connection import Connection
from ingest.http.connections import Connections
from ingest.http.descriptors import raise_fd_limit
from ingest.http.port import SETTING
from ingest.http.request import Request, make_request
from ingest.http.responses import replace_error
from ingest.metrics import CONNECTIONS, CONNECTIONS_CLOSED
from ingest.settings import IngestSettings
from runtime.children.child import Child
from runtime.errors import CommandError
from runtime.server_socket import Factory, open_listener, port_of, share_sockets
from stream.redis.client import describe_error

log = structlog.get_logger("ingest")

LOOPBACK = "127.0.0.1"
HEADERS = 64  # of up to 8 KiB each
BUFFER_BYTES = 16 * 1024  # of an unread body; at twice this size aiohttp pauses the connection
SPARE_SECONDS = 60.0  # added to aiohttp's keep-alive time, so that the limit of `Connections` applies first
PATIENCE_SECONDS = 0.5
"""For the next request of a connection when a child stops: others accept new connections, so its end may wait."""
CANCEL_SECONDS = 1.0
CHECK_SECONDS = 5.0
CHECK = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\nGET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
ANSWERS = re.compile(rb"(HTTP/1.1 200 OK\r\n(Content-\S+ \S+\r\n|Connection: close\r\n|Date: .*\r\n)+\r\nlive\n){2}")

Handle = Callable[[Request], Awaitable[web.StreamResponse]]


class FaultLog(logging.Handler):
    """Reports errors that aiohttp logs, by class and place only, because their texts may quote the client."""

    def emit(self, record: logging.LogRecord) -> None:
        """Report the error, unless it is a malformed request, whose answer is logged."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            report_fault(error)
        if error is not None:
            error.__traceback__ = None  # its frames hold the request and the error itself: a reference cycle


def report_fault(error: BaseException | None) -> None:
    """Log an error of our code or of aiohttp's, without its text."""
    frames = extract_tb(error.__traceback__) if error is not None else []
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    log.error("ingest.failed", error=describe_error(error) if error is not None else "?", at=place, sampled=True)


@asynccontextmanager
async def open_endpoint(handle: Handle, settings: IngestSettings, child: Child | None = None) -> AsyncIterator[int]:
    """Accept requests while the block runs; yields the port. Then answer in-flight requests, up to ``grace_seconds``.

    A ``child`` accepts them from the sockets of its supervisor. Raises CommandError if the port is taken, or if the
    self-test fails.
    """
    connections = Connections(
        _fit_connections(settings.connections),
        settings.client_seconds,
        settings.keepalive_seconds,
        CONNECTIONS_CLOSED,
        replace_error,
    )
    CONNECTIONS.set_function(lambda: len(connections))
    server = _make_server(handle, settings.keepalive_seconds)

    def connect() -> Connection:
        return Connection(connections, server())

    async with asyncio.TaskGroup() as tasks, _listen(connect, settings, child) as listeners:
        watch = tasks.create_task(connections.watch(*listeners), name="connections")
        try:
            yield port_of(listeners[0])
        finally:
            for listener in listeners:
                listener.close()
            await asyncio.sleep(0)  # requests that have arrived are now in flight
            await connections.drain(settings.grace_seconds, 0 if child is None else PATIENCE_SECONDS)
            watch.cancel()
            connections.abort_all()
            await asyncio.sleep(0)  # aiohttp sees the closed connections, and its idle handlers end
            await server.shutdown(CANCEL_SECONDS)


@asynccontextmanager
async def _listen(
    connect: Factory, settings: IngestSettings, child: Child | None
) -> AsyncIterator[Sequence[asyncio.Server]]:
    """Listen and test the port. A child tests a port of its own, because a sibling could answer on the shared one."""
    hosts, port = (settings.hosts, settings.port) if child is None else ([LOOPBACK], 0)
    async with open_listener(connect, hosts, port, setting=SETTING, receive_bytes=settings.max_body) as listener:
        await check_listener(listener)
        if child is None:
            yield [listener]
            return
    async with share_sockets(connect, child.take_listeners()) as listeners:
        yield listeners


def _make_server(handle: Handle, keepalive_seconds: float) -> web.Server:
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise CommandError(
            "aiohttp runs without its parser in C, and its Python parser is slower and less strict: "
            "unset AIOHTTP_NO_EXTENSIONS, or install aiohttp from a wheel"
        )
    logger = logging.getLogger("ingest.http")
    logger.setLevel(logging.DEBUG)  # aiohttp logs a malformed first request at this level
    logger.handlers, logger.propagate = [FaultLog()], False
    return web.Server(
        cast("Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]", handle),  # it gets what the factory makes
        request_factory=make_request,
        access_log=None,
        logger=logger,
        keepalive_timeout=keepalive_seconds + SPARE_SECONDS,
        lingering_time=0,
        max_headers=HEADERS,
        read_bufsize=BUFFER_BYTES,
        auto_decompress=False,  # a compressed body is refused, never inflated
    )


def _fit_connections(configured: int) -> int:
    limit = raise_fd_limit(configured)
    if limit < configured:
        log.warning(
            "ingest.few_descriptors", connections=limit, wanted=configured, what="raise the limit of open files"
        )
    return limit


async def check_listener(listener: asyncio.Server) -> None:
    """Test the port with two requests. Raises CommandError unless both get the expected answer."""
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
        raise CommandError(
            f"a test request to port {address[1]} did not get the expected answer (aiohttp {version('aiohttp')}): "
            "install a supported version (pip install 'aiohttp>=3.14.5,<4'), or check for a firewall"
        )
