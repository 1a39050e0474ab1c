"""The parsed head of a request, compared with aiohttp's properties of the same request."""

import asyncio

from aiohttp import hdrs, web
from hypothesis import given
from hypothesis import strategies as st

from ingest.http.request import Request, make_request
from runtime.server_socket import open_listener, port_of
from tests.support.http.raw_http import post, talk

TARGETS = ["/webhooks/dlr", "//webhooks/dlr", "/Webhooks/%64lr?a=%2f&b#c", "http://x/webhooks/dlr?a", "/?", "/a;b"]
HEADERS = [
    "Expect: 100-continue",
    "Authorization: Bearer a.b.c",
    "aUTHORIZATION: \t Basic eA== \t",
    "Content-Encoding: gzip, identity",
    "Content-Type: \xff",
    "X: ",
]
BODIES = {
    "": b"",
    "Content-Length: 5": b"hello",
    "content-length: 05": b"hello",
    "Content-Length: 0": b"",
    "Transfer-Encoding: chunked": b"5\r\nhello\r\n0\r\n\r\n",
    "TRANSFER-ENCODING:\tCHUNKED": b"5\r\nhello\r\n0\r\n\r\n",
}
STAYS_OPEN = ["HTTP/1.1", "HTTP/1.1\r\nconnection: Keep-Alive"]
CLOSES = ["HTTP/1.0", "HTTP/1.1\r\nConnection: close", "HTTP/1.1\r\nCONNECTION: x, close"]


def requests(versions: list[str]) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda method, target, version, headers, framing: post(
            *(header.encode("latin-1") for header in (*headers, framing) if header),
            body=BODIES[framing],
            line=f"{method} {target} {version}".encode(),
        ),
        st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"]),
        st.sampled_from(TARGETS),
        st.sampled_from(versions),
        st.lists(st.sampled_from(HEADERS), max_size=4, unique=True),
        st.sampled_from(list(BODIES)),
    )


async def receive(sent: bytes) -> list[Request]:
    """Return the requests of a connection on which a client sends these bytes."""
    received: list[Request] = []

    async def respond(request: web.BaseRequest) -> web.Response:
        assert isinstance(request, Request)
        received.append(request)
        return web.Response()

    server = web.Server(respond, request_factory=make_request, lingering_time=0)
    async with open_listener(server, ["127.0.0.1"], 0, setting="") as listener:
        await talk(port_of(listener), sent)
    await server.shutdown()
    return received


@given(st.lists(requests(STAYS_OPEN), max_size=3), requests(CLOSES))
def test_a_head_has_the_values_of_aiohttps_properties(earlier: list[bytes], last: bytes) -> None:
    """Each request of a connection has its own head; `Webhook` reads the head instead of the properties."""
    received = asyncio.run(receive(b"".join(earlier) + last))

    assert len(received) == len(earlier) + 1
    for request in received:
        head = request.head
        assert (head.method, head.version, head.path) == (request.method, request.version, request.raw_path)
        assert head.headers == request.headers
        assert head.should_close is not request.keep_alive
        assert bool(head.chunked) is (hdrs.TRANSFER_ENCODING in request.headers)
