"""A client's connection, between the socket and aiohttp.

It is the protocol for the event loop and the transport for aiohttp. So it can limit and time a client, and replace the
bytes that aiohttp writes by itself.
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from aiohttp import StreamReader, web

if TYPE_CHECKING:
    from ingest.http.connections import Connections

LINGER_SECONDS = 2.0  # after the last answer: a reset could destroy the answer before the client reads it
HEAD_BYTES = 32 * 1024  # limit of bytes passed to aiohttp before a request starts
UNSENT_BYTES = 8 * 1024  # of answers that the client does not read; beyond this its next request waits
TURNS = 6  # of the event loop, within which aiohttp starts the next request if it has one
FRAMING_CALLS = 64


class Connection(asyncio.BufferedProtocol, asyncio.Transport):
    """A client's connection. Its methods are for the request handler, the event loop, aiohttp, the sweep and the stop.

    Reads are small and share one buffer (uvloop's own buffers have 256 KiB each). While a request with a complete body
    is in flight, nothing more is read. So the data that a client sends ahead takes at most two reads.
    """

    __slots__ = (
        "_ahead",
        "_content",
        "_head_bytes",
        "_http",
        "_is_chunked",
        "_is_dropping",
        "_is_ended",
        "_is_full",
        "_is_half_closed",
        "_loop",
        "_since",
        "_transport",
        "_turns",
        "_unread_since",
        "connections",
    )

    def __init__(self, connections: "Connections", http: asyncio.Protocol) -> None:
        super().__init__()
        self.connections = connections
        self._http = http
        self._loop = asyncio.get_running_loop()
        self._content: StreamReader | None = None  # of the request in flight
        self._is_chunked = False
        self._head_bytes = 0  # passed to aiohttp since the last request started
        self._ahead = b""  # not passed to aiohttp yet
        self._since = self._loop.time()  # connect, first byte of a head, or answer
        self._unread_since: float | None = None
        self._turns = 0  # until `_proceed` does something
        self._is_full = False  # aiohttp has paused reading
        self._is_half_closed = False  # the client has closed its sending side
        self._is_ended = False  # our sending side is closed
        self._is_dropping = False  # all further bytes of the client are dropped

    def start_request(self, content: StreamReader, *, is_chunked: bool) -> None:
        """Record a complete request head and its body stream."""
        self._content = content
        self._is_chunked = is_chunked
        self._head_bytes = 0
        if self._ahead and not content.is_eof():
            self._pass_on()
        if is_chunked and not content.is_eof():
            self._check_framing(content)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the client."""
        if not self._is_ended and not self._transport.is_closing():
            self._transport.write(data)

    def finish_request(self, *, is_last: bool) -> None:
        """Record that the answer was sent. After the last answer all further bytes of the client are dropped."""
        self._content = None
        self._since = self._loop.time()
        if is_last:
            self._is_dropping, self._ahead = True, b""
            return
        if not self._is_full:
            self._http.data_received(b"")  # aiohttp may hold back a request that was sent ahead and ended late
        if self._ahead or self._is_half_closed:
            self._proceed()

    def cut(self) -> None:
        """Close as soon as the sent bytes are flushed, without waiting for the client to close."""
        self._is_dropping = self._is_ended = True
        self._transport.close()

    def count_use(self) -> None:
        """Record that this connection was of use: a webhook of it was stored."""
        self.connections.move_to_end(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection. The least recently useful one may be closed for it."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self._http.connection_made(self)
        self.connections.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's interface
        """Return the buffer for the next read."""
        return self.connections.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass the bytes to aiohttp, or hold them until the current request is answered."""
        if self._is_dropping:
            return
        data = self.connections.buffer[:nbytes].tobytes()
        content = self._content
        if content is None and not self._ahead:
            self._receive_head(data)
        elif content is None or content.is_eof():
            self._ahead += data
            self._transport.pause_reading()
        else:
            self._http.data_received(data)
            if self._is_chunked and not content.is_eof():
                self._check_framing(content)

    def eof_received(self) -> bool:
        """Answer the complete requests, then close."""
        content = self._content
        if self._is_ended or (content is not None and not content.is_eof()):
            return False
        self._is_half_closed = True
        self._proceed()
        return True

    def pause_writing(self) -> None:
        """Pause aiohttp until the client reads its answers."""
        self._unread_since = self._loop.time()
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Resume aiohttp."""
        self._unread_since = None
        self._http.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Unregister the connection."""
        self.connections.discard(self)
        self._http.connection_lost(cast("Exception | None", exc))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write for aiohttp. In ingest it writes only errors, which quote the client: our own are sent instead."""
        if (replace_error := self.connections.replace_error) is None:
            self.send(data)
        elif not self._is_dropping:
            self._is_dropping = True
            self.send(replace_error(bytes(data)))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Do the same as `write`."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Close the sending side, and drop received bytes until the client closes, up to LINGER_SECONDS."""
        self._is_dropping = True
        self.end()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._is_ended or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information of the socket's transport."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Stop reading."""
        self._is_full = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again, unless bytes that were sent ahead wait. aiohttp calls this for each body, paused or not."""
        if self._is_full:
            self._is_full = False
            self._read_on()

    @property
    def is_stopping(self) -> bool:
        """Whether the process is stopping, so that each answer is the last of its connection."""
        return self.connections.is_stopping

    @property
    def is_busy(self) -> bool:
        """Whether a request is in progress, from the first byte of its head to the last byte of its answer."""
        return self._content is not None or (
            not self._is_ended and (self._head_bytes > 0 or self._transport.get_write_buffer_size() > 0)
        )

    def end(self) -> None:
        """Close the sending side. A request that is already on its way is still stored."""
        if self._is_ended or self._transport.is_closing():
            return
        self._is_ended = True
        self._since = self._loop.time()
        if self._is_half_closed:
            self._transport.close()
        else:
            self._transport.write_eof()
            self._transport.resume_reading()

    def find_overdue(self, now: float, client_seconds: float, keepalive_seconds: float) -> str | None:
        """Return the reason to close now, or None: `answer`, `head`, `idle`, or `ended` if the client did not close."""
        waited = now - self._since
        if self._unread_since is not None:
            return "answer" if now - self._unread_since >= client_seconds else None
        if self._is_ended and self._content is None:
            if self._transport.get_write_buffer_size():
                return "answer" if waited >= client_seconds else None
            return "ended" if waited >= LINGER_SECONDS else None
        if self._content is not None:
            return None
        if self._head_bytes:
            return "head" if waited >= client_seconds else None
        return "idle" if waited >= keepalive_seconds else None

    def _receive_head(self, data: bytes) -> None:
        if not self._head_bytes:
            if not data.strip(b"\r\n"):  # a blank line is not a request; some clients send one after a body
                self._http.data_received(data)
                return
            self._since = self._loop.time()
        self._head_bytes += len(data)
        if self._head_bytes <= HEAD_BYTES:
            self._http.data_received(data)
        else:  # too large, unless aiohttp is about to start a request or report an error
            self._ahead += data
            self._transport.pause_reading()
            self._proceed()

    def _proceed(self) -> None:
        """Once aiohttp has no more requests, pass on the held bytes, or close if the client has closed its side."""
        if not self._turns:
            self._loop.call_soon(self._take_turn)
        self._turns = TURNS

    def _take_turn(self) -> None:
        self._turns -= 1
        if self._content is not None or self._is_dropping or self._transport.is_closing():
            self._turns = 0
        elif self._turns:
            self._loop.call_soon(self._take_turn)
        elif self._is_full:  # `resume_reading` follows
            return
        elif self._head_bytes > HEAD_BYTES:
            self.connections.give_up(self, "head")
        elif self._ahead:
            self._since = self._loop.time()
            self._head_bytes += len(self._ahead)
            self._pass_on()
        elif self._is_half_closed:
            self.close()

    def _pass_on(self) -> None:
        ahead, self._ahead = self._ahead, b""
        self._http.data_received(ahead)
        self._read_on()

    def _read_on(self) -> None:
        if self._ahead:
            self._proceed()
        elif not self._is_full and not self._is_half_closed and not self._transport.is_closing():
            self._transport.resume_reading()

    def _check_framing(self, content: StreamReader) -> None:
        """Fail a chunked body with malformed framing.

        aiohttp reports malformed framing only after the request. Until then it queues an error for each call and pauses
        reading when many errors are queued, which this method uses to detect it.
        """
        was_full = self._is_full
        for _ in range(0 if was_full else FRAMING_CALLS):
            self._http.data_received(b"")
        if self._is_full and not was_full:
            content.set_exception(web.RequestPayloadError())
