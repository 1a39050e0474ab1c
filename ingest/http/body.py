"""Reading a request's body: no larger than allowed, no slower than the deadline, and all of them in limited memory."""

import asyncio
from types import TracebackType
from typing import Self

from aiohttp import StreamReader

from runtime.metrics import BODY_BYTES

ROOM_BYTES = 64 * 1024 * 1024


class BodyRefused(Exception):  # noqa: N818 - named for what the caller must tell the client
    """The body is not taken: the base of these, each with the ``status`` to answer.

    Broken    400: its framing is faulty
    TooLarge  413: it is, or says that it is, larger than allowed
    TooSlow   503: it was not whole at the deadline
    NoRoom    503: all bodies together take too much memory
    """

    status: int


class Broken(BodyRefused):
    """Its framing is faulty."""

    status = 400


class TooLarge(BodyRefused):
    """It is, or says that it is, larger than allowed."""

    status = 413


class TooSlow(BodyRefused):
    """It was not whole at the deadline."""

    status = 503


class NoRoom(BodyRefused):
    """All bodies together take too much memory."""

    status = 503


class Bodies:
    """All bodies that are in memory: being read, or waiting to be kept."""

    def __init__(self, most_bytes: int, seconds: float, room_bytes: int = ROOM_BYTES) -> None:
        self.most_bytes = most_bytes
        self.seconds = seconds
        self.room_bytes = room_bytes
        """How many bytes more there may be."""
        BODY_BYTES.set_function(lambda: room_bytes - self.room_bytes)

    def open(self) -> "Body":
        """Return a body to read; it counts until the end of its ``with`` block."""
        return Body(self)


class Body:
    """One body."""

    __slots__ = ("_bodies", "_bytes")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._bodies.room_bytes += self._bytes

    def take(self, content: StreamReader) -> bytes:
        """Return the whole of it, which has come. Raises BodyRefused."""
        payload = content.read_nowait()
        self._count(payload)
        return payload

    def announce(self, length: int | None) -> None:
        """Hear how long it is going to be. Raises TooLarge or NoRoom.

        What is announced takes no room, only what has come: else a few who announce much and send nothing would keep
        all others out.
        """
        if length is not None:
            if length > self._bodies.most_bytes:
                raise TooLarge
            if length > self._bodies.room_bytes:
                raise NoRoom

    async def read(self, content: StreamReader) -> bytes:
        """Return the whole of it, within the deadline. Raises BodyRefused, or ConnectionError if the client is gone."""
        parts = bytearray()
        try:
            async with asyncio.timeout(self._bodies.seconds):
                while part := await content.readany():
                    self._count(part)
                    parts += part
        except TimeoutError:
            raise TooSlow from None
        return bytes(parts)

    def _count(self, part: bytes) -> None:
        self._bytes += len(part)
        self._bodies.room_bytes -= len(part)
        if self._bytes > self._bodies.most_bytes:
            raise TooLarge
        if self._bodies.room_bytes < 0:
            raise NoRoom
