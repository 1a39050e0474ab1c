"""A TCP proxy whose faults can change while it runs, for tests of a process whose server misbehaves."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

from tests.support.servers.listen import run_listener

PIECE_BYTES = 64 * 1024

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST, and drops what was not sent


class Proxy:
    """Passes bytes between clients and one server. Made by ``run_proxy``; at first it has no fault.

    Faults hold for open and new connections, and can be combined. Bytes stay in order, and none is changed.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.delay_seconds = 0.0
        """How long each piece is held, in both directions."""
        self.swallows_replies = False
        """Whether replies of the server are dropped; requests still pass."""
        self.refuses = False
        """Whether new connections are reset at once."""
        self.connections = 0
        """How many there were so far."""
        self.cuts = 0
        """How often all were cut."""
        self._host = host
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._cut_after_bytes: int | None = None

    def freeze(self) -> None:
        """Pass nothing in either direction: connections stay open, and new ones are taken, as by a stopped process."""
        self._passing.clear()

    def thaw(self) -> None:
        """Pass the held-back bytes and all later ones."""
        self._passing.set()

    def cut(self) -> None:
        """Reset every connection that is open."""
        self.cuts += 1
        for writer in list(self._open):
            _reset(writer)

    def cut_after(self, size: int) -> None:
        """Cut after this number of further bytes to the server, even inside a command."""
        self._cut_after_bytes = size

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            if self.refuses:
                _reset(writer)
                return
            await self._passing.wait()
            server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
            self._open.add(server_writer)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._pass(reader, server_writer, replies=False))
                    tasks.create_task(self._pass(server_reader, writer, replies=True))
            finally:
                self._discard(server_writer)
        except* OSError:  # one side is gone, and so the other goes
            pass
        finally:
            self._discard(writer)

    def _discard(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        while piece := await reader.read(PIECE_BYTES):
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            await self._passing.wait()
            if replies:
                if not self.swallows_replies:
                    writer.write(piece)
            else:
                writer.write(self._before_cut(piece))
            await writer.drain()
        raise ConnectionResetError

    def _before_cut(self, piece: bytes) -> bytes:
        if self._cut_after_bytes is None:
            return piece
        passed, self._cut_after_bytes = piece[: self._cut_after_bytes], self._cut_after_bytes - len(piece)
        if self._cut_after_bytes <= 0:
            self._cut_after_bytes = None
            asyncio.get_running_loop().call_soon(self.cut)  # once the piece is on its way
        return passed

    @asynccontextmanager
    async def _listen(self) -> AsyncIterator[None]:
        async with run_listener(self._serve) as self.port:
            yield


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@asynccontextmanager
async def run_proxy(port: int, host: str = "127.0.0.1") -> AsyncIterator[Proxy]:
    """Run a proxy in front of a server for the length of the block."""
    proxy = Proxy(host, port)
    async with proxy._listen():  # noqa: SLF001 - the other half of the class
        yield proxy


def through(proxy: Proxy, url: str) -> str:
    """Return the URL of the proxy's server with the proxy's address in it."""
    parts = urlsplit(url)
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{proxy.port}"))
