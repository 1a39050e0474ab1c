"""The answer to what is kept: 200 with an empty body, as prepared bytes. Building it for each request takes longer."""

from functools import lru_cache

from aiohttp import HttpVersion11, web
from aiohttp.helpers import rfc822_formatted_time


class Kept(web.StreamResponse):
    """It has no state, so that one is enough; the protocol writes ``now``. It is for requests that it ``fits``."""

    keep_alive = True

    def __init__(self) -> None:
        """Make nothing of what aiohttp's own response consists of."""

    @staticmethod
    def fits(request: web.BaseRequest) -> bool:
        """Whether the bytes are right: not for HTTP/1.0, nor for a connection that has to end with this answer."""
        message = request._message  # noqa: SLF001 - aiohttp tells the last nowhere else
        return message.version == HttpVersion11 and not message.should_close and not message.upgrade

    @staticmethod
    def now() -> bytes:
        """Return the whole response."""
        return _at(rfc822_formatted_time())


@lru_cache(maxsize=1)
def _at(date: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: %b\r\n\r\n" % date.encode()


KEPT = Kept()
