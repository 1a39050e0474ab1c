"""Reading the body of a request: with a size limit, a deadline, and a limit on the memory of all bodies together."""

import asyncio

from aiohttp import StreamReader

from ingest.http.responses import NO_ROOM, TOO_LARGE, TOO_SLOW, RequestRefused
from ingest.metrics import BODY_BYTES

ROOM_BYTES = 64 * 1024 * 1024


class Bodies:
    """All bodies in memory. ``seconds`` is the deadline of one body, counted from the end of the request's head."""

    def __init__(self, most_bytes: int, seconds: float, room_bytes: int = ROOM_BYTES) -> None:
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._room_bytes = room_bytes
        BODY_BYTES.set_function(lambda: room_bytes - self._room_bytes)

    def take(self, content: StreamReader) -> bytes:
        """Return a body that is complete, to `release` later. Raises RequestRefused."""
        payload = content.read_nowait()
        self._check(len(payload), len(payload))
        self._room_bytes -= len(payload)
        return payload

    def announce(self, size: int | None) -> None:
        """Check the size that a request announces. Raises RequestRefused.

        An announced size takes no room: a few clients that announce much and send nothing would keep all others out.
        """
        if size is not None:
            self._check(size, size)

    async def read(self, content: StreamReader) -> bytes:
        """Return a body that is still arriving, to `release` later. Raises RequestRefused, and as ``content`` does."""
        parts = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                while part := await content.readany():
                    self._check(len(parts) + len(part), len(part))
                    self._room_bytes -= len(part)
                    parts += part
        except TimeoutError:
            self._room_bytes += len(parts)
            raise RequestRefused(TOO_SLOW) from None
        except BaseException:
            self._room_bytes += len(parts)
            raise
        return bytes(parts)

    def release(self, payload: bytes) -> None:
        """Note that a body is not needed any more."""
        self._room_bytes += len(payload)

    def _check(self, size: int, more: int) -> None:
        if size > self._most_bytes:
            raise RequestRefused(TOO_LARGE)
        if more > self._room_bytes:
            raise RequestRefused(NO_ROOM)
