"""aiohttp's handler of a connection: with limits, one answer to what is malformed, and few words about it."""

import asyncio
from contextlib import suppress
from pathlib import Path
from traceback import extract_tb
from typing import Any, cast

import structlog
from aiohttp import StreamReader, http_parser, web
from aiohttp.http import HttpProcessingError, RawRequestMessage, StreamWriter

from ingest.http.body import Broken
from ingest.http.responses import KEPT
from runtime.metrics import WEBHOOKS
from stream.redis.client import names

log = structlog.get_logger("ingest")

KEEPALIVE_SECONDS = 75.0
LINGER_SECONDS = 2.0  # for the rest of a body that was refused, so that the client sees its answer
HEADERS = 64  # of 8 KiB each
AHEAD_REQUESTS = 2  # that a client may have sent while one is in hand; aiohttp's own limit is 32, bodies and all
BUFFER_BYTES = 16 * 1024  # of a body that is not read yet; at twice as many the connection is not read


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

    async def start(self) -> None:
        """Answer one request after the other, until the connection has to end.

        aiohttp's own loop makes a task for each, which is a tenth of what an unsigned request takes in all.
        """
        try:
            with suppress(ConnectionError):  # the client is gone
                while await self._has_request():
                    if not isinstance(self._messages[0][0], RawRequestMessage):
                        await super().start()  # it is malformed, and the last
                        break
                    if not await self._answer(*self._take()):
                        break
                    if self._messages:
                        await asyncio.sleep(0)  # who sends ahead does not take the others' turn
        except Exception as exc:  # noqa: BLE001 - a fault of ours: it ends this connection, and no other
            log.error("ingest.failed", error=names(exc), at=_place(exc), sampled=True)  # noqa: TRY400 - no traceback
        finally:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _has_request(self) -> bool:
        """Wait for the next one; whether it is to be answered."""
        if not self._messages and not self._force_close:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return not self._force_close

    def _take(self) -> tuple[RawRequestMessage, StreamReader]:
        taken = cast("tuple[RawRequestMessage, StreamReader]", self._messages.popleft())
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        return taken

    async def _answer(self, message: RawRequestMessage, payload: StreamReader) -> bool:
        """Answer it; whether the connection goes on. Raises ConnectionError when it does not."""
        handler, task = self._request_handler, self._task_handler
        if handler is None or task is None:
            raise ConnectionResetError
        request = web.BaseRequest(message, payload, self, StreamWriter(self, self._loop), task, self._loop)
        answer, is_lost = await self._handle_request(request, None, handler)
        if is_lost:
            raise ConnectionResetError
        if not payload.is_eof() and not self._force_close:
            await self._skip(payload)
        if not payload.is_eof() or not answer.keep_alive or self._close or self._force_close:
            return False
        self._next_keepalive_close_time = self._loop.time() + KEEPALIVE_SECONDS
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer, and wait for a client that does not read, so that it costs no memory."""
        if resp is not KEPT:
            return await super().finish_response(request, resp, start_time)
        if self.transport is None or self.transport.is_closing():
            return resp, True
        self.transport.write(KEPT.now())
        if self._paused:
            await self._drain_helper()
        return resp, False

    async def _skip(self, payload: StreamReader) -> None:
        """Read the rest of a body that was refused, for a while, so that its sender sees the answer."""
        with suppress(TimeoutError, web.RequestPayloadError, Broken):
            async with asyncio.timeout(LINGER_SECONDS):
                while not payload.is_eof():
                    await payload.readany()

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

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on, if reading was paused. aiohttp calls it for each body, and does all of it even where nothing was."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

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
        WEBHOOKS.count(str(status))
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
