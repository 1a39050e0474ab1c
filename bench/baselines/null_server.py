"""Baseline: a server that only answers, so its rate is the limit of the load generator.

``python -m bench.baselines.null_server PORT`` starts it.
"""

import asyncio
import sys
from typing import cast

import uvloop

from bench.load.closed_loop import request
from bench.rig.processes import HOST

PATH = "/"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Nothing(asyncio.Protocol):
    """Answers once for as many bytes as a request has."""

    def __init__(self, request_bytes: int) -> None:
        self._request_bytes = request_bytes
        self._missing = request_bytes
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Count, and answer."""
        self._missing -= len(data)
        if self._missing <= 0 and self._transport is not None:
            self._missing += self._request_bytes
            self._transport.write(ANSWER)


async def serve(port: int) -> None:
    """Answer until cancelled."""
    request_bytes = len(request(PATH))
    server = await asyncio.get_running_loop().create_server(lambda: Nothing(request_bytes), HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
