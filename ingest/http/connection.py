"""One client's connection, between the socket and aiohttp.

For the event loop it is the protocol, for aiohttp the transport: so it counts and times what a client does, and decides
about each byte that aiohttp writes by itself.
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from aiohttp import StreamReader, web

if TYPE_CHECKING:
    from ingest.http.connections import Connections

LINGER_SECONDS = 2.0  # after the last answer: a reset would take the answer with it
HEAD_BYTES = 32 * 1024  # passed to aiohttp before a request starts
UNSENT_BYTES = 8 * 1024  # of answers that the client does not take; beyond them its next request waits
TURNS = 6  # of the event loop, in which aiohttp starts the next request if it has one
FRAMING_CALLS = 64


class Connection(asyncio.BufferedProtocol, asyncio.Transport):
    """One client's connection: for the request handler, then as protocol, as transport, and for the sweep and the stop.

    Reads are small and share one buffer (those of uvloop have 256 KiB each). While a request is in flight whose body is
    complete, nothing more is read: so what a client sends ahead costs at most two reads.
    """

    __slots__ = (
        "_ahead",
        "_connections",
        "_content",
        "_head_bytes",
        "_http",
        "_is_chunked",
        "_is_dropping",
        "_is_ended",
        "_is_full",
        "_is_half_closed",
        "_is_pipelining",
        "_loop",
        "_since",
        "_transport",
        "_turns",
        "_unread_since",
    )

    def __init__(self, connections: "Connections", http: asyncio.Protocol) -> None:
        super().__init__()
        self._connections = connections
        self._http = http
        self._loop = asyncio.get_running_loop()
        self._content: StreamReader | None = None  # of the request in flight
        self._is_chunked = False
        self._head_bytes = 0  # passed to aiohttp since the last request started
        self._ahead = b""  # not passed to aiohttp yet
        self._since = self._loop.time()  # connect, first byte of a head, or answer
        self._unread_since: float | None = None
        self._turns = 0  # until `_proceed` does something
        self._is_full = False  # aiohttp takes nothing more
        self._is_pipelining = False  # the client sends requests before it has the answer to an earlier one
        self._is_half_closed = False  # the client sends nothing more
        self._is_ended = False  # nothing more is sent to the client
        self._is_dropping = False  # whatever the client sends is dropped

    def start_request(self, content: StreamReader, *, is_chunked: bool) -> None:
        """Note that a head was complete, and that this is the body."""
        self._content = content
        self._is_chunked = is_chunked
        self._head_bytes = 0
        if self._ahead and not content.is_eof():
            self._pass_on()
        if is_chunked and not content.is_eof():
            self._check_framing(content)

    def send(self, data: bytes) -> None:
        """Write to the client."""
        if not self._is_ended and not self._transport.is_closing():
            self._transport.write(data)

    def finish_request(self, *, is_last: bool) -> None:
        """Note that its answer was sent. After the last one the client's bytes are dropped."""
        self._content = None
        self._since = self._loop.time()
        if is_last:
            self._is_dropping, self._ahead = True, b""
            return
        if self._is_pipelining and not self._is_full:
            self._http.data_received(b"")  # aiohttp may hold requests back: it miscounts those whose body came later
        if self._ahead or self._is_half_closed:
            self._proceed()

    def cut(self) -> None:
        """Close without waiting for the client, as soon as it has taken what was sent."""
        self._is_dropping = self._is_ended = True
        self._transport.close()

    def count_use(self) -> None:
        """Note that a webhook was stored that came by this connection."""
        self._connections.move_to_end(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start. Another connection may have to go."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self._http.connection_made(self)
        self._connections.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's interface
        """Return where the next bytes go."""
        return self._connections.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass these bytes to aiohttp, or keep them until it has answered."""
        if self._is_dropping:
            return
        data = bytes(self._connections.buffer[:nbytes])
        content = self._content
        if content is None and not self._ahead:
            self._receive_head(data)
        elif content is None or content.is_eof():
            self._ahead += data
            self._transport.pause_reading()
        else:
            self._feed(data, starts=0)
            if self._is_chunked and not content.is_eof():
                self._check_framing(content)

    def eof_received(self) -> bool:
        """Answer what was sent whole, then close."""
        content = self._content
        if self._is_ended or (content is not None and not content.is_eof()):
            return False
        self._is_half_closed = True
        self._proceed()
        return True

    def pause_writing(self) -> None:
        """Wait for the client, which has to take its answers."""
        self._unread_since = self._loop.time()
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Go on."""
        self._unread_since = None
        self._http.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        self._connections.discard(self)
        self._http.connection_lost(cast("Exception | None", exc))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send a bare answer instead: aiohttp writes only errors, which quote the client and name versions."""
        if not self._is_dropping:
            self._is_dropping = True
            self.send(self._connections.replace_error(400 if bytes(data[9:12]) == b"400" else 500))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """As `write`."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Send nothing more, and drop what still comes until the client closes, for LINGER_SECONDS."""
        self._is_dropping = True
        self.end()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._is_ended or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the socket's transport knows."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Read nothing more."""
        self._is_full = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless something was sent ahead. aiohttp calls this for each body, paused or not."""
        if self._is_full:
            self._is_full = False
            self._read_on()

    @property
    def is_stopping(self) -> bool:
        """Whether the process stops, so that each answer is the last of its connection."""
        return self._connections.is_stopping

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way, from the first byte of its head to the last byte of its answer."""
        return self._content is not None or (
            not self._is_ended and (self._head_bytes > 0 or self._transport.get_write_buffer_size() > 0)
        )

    def end(self) -> None:
        """Send nothing more. A request that crosses with this is still stored."""
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
        """Return why to close it now: `answer`, `head` or `idle`; `ended` if the client did not close in time."""
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
            if not data.strip(b"\r\n"):  # blank lines start no request; some clients send one after a body
                self._http.data_received(data)
                return
            self._since = self._loop.time()
        self._head_bytes += len(data)
        if self._head_bytes <= HEAD_BYTES:
            self._feed(data, starts=1)
        else:  # too much, unless a request or an error is about to start
            self._ahead += data
            self._transport.pause_reading()
            self._proceed()

    def _proceed(self) -> None:
        """Once aiohttp has no request left, pass on what was sent ahead; or close, if the client sends nothing more."""
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
            self._connections.give_up(self, "head")
        elif self._ahead:
            self._since = self._loop.time()
            self._head_bytes += len(self._ahead)
            self._pass_on()
        elif self._is_half_closed:
            self.close()

    def _pass_on(self) -> None:
        ahead, self._ahead = self._ahead, b""
        self._is_pipelining = True
        self._http.data_received(ahead)
        self._read_on()

    def _feed(self, data: bytes, *, starts: int) -> None:
        if not self._is_pipelining and data.count(b" HTTP/1.") > starts:
            self._is_pipelining = True
        self._http.data_received(data)

    def _read_on(self) -> None:
        if self._ahead:
            self._proceed()
        elif not self._is_full and not self._is_half_closed and not self._transport.is_closing():
            self._transport.resume_reading()

    def _check_framing(self, content: StreamReader) -> None:
        """End a chunked body whose framing is broken.

        aiohttp reports that only after the request. Until then it queues one error for each call, and stops reading
        when many wait.
        """
        was_full = self._is_full
        for _ in range(0 if was_full else FRAMING_CALLS):
            self._http.data_received(b"")
        if self._is_full and not was_full:
            content.set_exception(web.RequestPayloadError())
