"""Reads request bodies with a size limit, a deadline, and a limit on the memory of all bodies together."""

import asyncio

from aiohttp import StreamReader

from ingest.http.responses import NO_ROOM, TOO_LARGE, TOO_SLOW, RequestRefused
from ingest.metrics import BODY_BYTES

ROOM_BYTES = 64 * 1024 * 1024


class Bodies:
    """The bodies in memory. ``seconds`` is the time limit of one body, counted from the end of the request's head."""

    def __init__(self, most_bytes: int, seconds: float, room_bytes: int = ROOM_BYTES) -> None:
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._room_bytes = room_bytes
        BODY_BYTES.set_function(lambda: room_bytes - self._room_bytes)

    def take(self, content: StreamReader) -> bytes:
        """Return a complete body; call `release` later. Raises RequestRefused."""
        payload = content.read_nowait()
        self._check(len(payload), len(payload))
        self._room_bytes -= len(payload)
        return payload

    def announce(self, size: int | None) -> None:
        """Check the announced size of a body. Raises RequestRefused.

        An announced size reserves no memory: a few clients that announce much and send nothing would block all others.
        """
        if size is not None:
            self._check(size, size)

    async def read(self, content: StreamReader) -> bytes:
        """Read the rest of a body; call `release` later. Raises RequestRefused and the errors of ``content``."""
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
        """Give back the memory of a body."""
        self._room_bytes += len(payload)

    def _check(self, size: int, more: int) -> None:
        if size > self._most_bytes:
            raise RequestRefused(TOO_LARGE)
        if more > self._room_bytes:
            raise RequestRefused(NO_ROOM)
