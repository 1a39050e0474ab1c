import asyncio
from collections.abc import Iterator

import pytest

from stream.keys import Shard
from tests.support.http.raw_http import LAST, PATH, Edge, good, open_socket, post, receive_all, run_for_module, talk

pytestmark = pytest.mark.one_process("framing")  # its tests share a process of ingest

TEXT = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
MEBIBYTE = 1 << 20

# Each is answered 400 and closed, and nothing of it is kept.
MALFORMED = {
    "two lengths, equal": post(TEXT, TEXT, body=b"hello"),
    "two lengths, different": post(TEXT, b"Content-Length: 6", body=b"hello!"),
    "a length, then chunked": post(TEXT, CHUNKED, body=HELLO),
    "chunked, then a length": post(CHUNKED, TEXT, body=HELLO),
    "a length with a sign": post(b"Content-Length: +5", body=b"hello"),
    "a negative length": post(b"Content-Length: -5", body=b"hello"),
    "a hexadecimal length": post(b"Content-Length: 0x5", body=b"hello"),
    "a list of lengths": post(b"Content-Length: 5, 5", body=b"hello"),
    "a length in two words": post(b"Content-Length: 5 5", body=b"hello"),
    "an empty length": post(b"Content-Length: ", body=b"hello"),
    "a length beyond all numbers": post(b"Content-Length: " + b"9" * 30, body=b"hello"),
    "a length of endless zeros": post(b"Content-Length: " + b"0" * 5000 + b"5", body=b"hello"),
    "a blank before the length's colon": post(b"Content-Length : 5", body=b"hello"),
    "no length, and a body": post(body=b"hello"),
    "a blank before the coding's colon": post(b"Transfer-Encoding : chunked", body=HELLO),
    "an unknown coding": post(b"Transfer-Encoding: xchunked", body=HELLO),
    "a quoted coding": post(b'Transfer-Encoding: "chunked"', body=HELLO),
    "a coding after a vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=HELLO),
    "chunked, identity": post(b"Transfer-Encoding: chunked, identity", body=HELLO),
    "gzip, chunked": post(b"Transfer-Encoding: gzip, chunked", body=HELLO),
    "two codings": post(b"Transfer-Encoding: gzip", CHUNKED, body=HELLO),
    "identity with a length": post(b"Transfer-Encoding: identity", TEXT, body=b"hello"),
    "an empty coding with a length": post(b"Transfer-Encoding: ", TEXT, body=b"hello"),
    "a coding in HTTP/1.0": post(CHUNKED, body=HELLO, line=b"POST /webhooks/dlr HTTP/1.0"),
    "line feeds only": good(b"hello").replace(b"\r\n", b"\n"),
    "one line feed only": post(b"A: b\nContent-Length: 5", body=b"hello"),
    "a bare carriage return": post(b"A: b\rContent-Length: 5", body=b"hello"),
    "a folded line": post(b"A: b", b" c", TEXT, body=b"hello"),
    "a folded length": post(b"Content-Length:", b" 5", body=b"hello"),
    "a folded first line": post(TEXT, body=b"hello").replace(b"Host", b" A: b\r\nHost"),
    "a negative chunk": post(CHUNKED, body=b"-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk beyond all numbers": post(CHUNKED, body=b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n"),
    "a chunk size that is not a number": post(CHUNKED, body=b"xyz\r\nhello\r\n0\r\n\r\n"),
    "a chunk with a prefix": post(CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk with a blank": post(CHUNKED, body=b"5 \r\nhello\r\n0\r\n\r\n"),
    "a chunk line of a line feed": post(CHUNKED, body=b"5\nhello\r\n0\r\n\r\n"),
    "an extension with a line feed": post(CHUNKED, body=b"5;a\nhello\r\n0\r\n\r\n"),
    "a chunk longer than it says": post(CHUNKED, body=b"5\r\nhello!\r\n0\r\n\r\n"),
    "a length in the trailer": post(CHUNKED, body=b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n"),
    "trailers without end": post(CHUNKED, body=b"5\r\nhello\r\n0\r\n" + b"A: b\r\n" * 200 + b"\r\n"),
    "a header of 1 MiB": post(b"A: " + b"x" * MEBIBYTE, TEXT, body=b"hello"),
    "10,000 headers": post(*[b"A: b"] * 10_000, TEXT, body=b"hello"),
    "a request line of 1 MiB": post(TEXT, body=b"hello", line=b"POST /webhooks/dlr?" + b"a" * MEBIBYTE + b" HTTP/1.1"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "the hello of TLS": bytes.fromhex("1603010200010001fc0303") + bytes(range(256)),
    "HTTP/0.9": b"GET /webhooks/dlr?a\r\n\r\n",
    "HTTP/2.0": post(TEXT, body=b"hello", line=b"POST /webhooks/dlr HTTP/2.0"),
    "HTTP/1.2": post(TEXT, body=b"hello", line=b"POST /webhooks/dlr HTTP/1.2"),
    "NUL in a value": post(b"A: a\0b", TEXT, body=b"hello"),
    "NUL in a name": post(b"A\0: b", TEXT, body=b"hello"),
    "NUL in the path": post(TEXT, body=b"hello", line=b"POST /webhooks/dlr\0 HTTP/1.1"),
    "bytes beyond ASCII in the path": post(TEXT, body=b"hello", line=b"POST /webhooks/dlr?\xe2\x80\xae\xff HTTP/1.1"),
    "no Host": good(b"hello").replace(b"Host: x\r\n", b""),
    "two Hosts": post(b"Host: y", TEXT, body=b"hello"),
    "a header without a colon": post(b"A", TEXT, body=b"hello"),
    "a header without a name": post(b": b", TEXT, body=b"hello"),
    "a method that there is not": post(TEXT, body=b"hello", line=b"KEEP /webhooks/dlr HTTP/1.1"),
    "an authority with a wrong port": post(TEXT, body=b"hello", line=b"POST http://x:99999/webhooks/dlr HTTP/1.1"),
    "nothing but zeros": b"\0" * 1000,
}

# Each is answered 200 and stored, and the connection stays open.
SERVED = {
    "one length": (good(b"hello"), b"hello"),
    "a length with leading zeros": (post(b"Content-Length: 005", body=b"hello"), b"hello"),
    "chunked": (post(CHUNKED, body=HELLO), b"hello"),
    "CHUNKED after a tab": (post(b"Transfer-Encoding:\tCHUNKED", body=HELLO), b"hello"),
    "extensions and trailers": (post(CHUNKED, body=b"5;a=b;c\r\nhello\r\n0;d\r\nA: b\r\n\r\n"), b"hello"),
    "a request as to a proxy": (
        post(TEXT, body=b"hello", line=b"POST http://x/webhooks/dlr HTTP/1.1"),
        b"hello",
    ),
    "a GET with a body": (post(TEXT, body=b"hello", line=b"GET /webhooks/dlr?a=b HTTP/1.1"), b"a=b"),
    "empty lines before it": (b"\r\n\r\n" + good(b"hello"), b"hello"),
    "bytes beyond ASCII in a value": (good(b"hello", b"A: \xff\xfe", b"Content-Type: \xff"), b"hello"),
}


@pytest.fixture(scope="module")
def edge(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    yield from run_for_module(
        Edge(tmp_path_factory.mktemp("framing"), valkey_url, Shard("test-framing"), body_seconds="1", grace_seconds="1")
    )


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_malformed_gets_one_400_and_a_closed_connection(edge: Edge, name: str) -> None:
    """The request is not stored, no answer quotes it, and bytes after it are ignored."""
    answer = await talk(edge.port, MALFORMED[name] + good(b"smuggled"))
    assert answer.answers == [400]
    assert answer.raw.endswith(b"\r\n\r\n")
    assert await edge.takes_a_good_one()


@pytest.mark.parametrize("name", ["a header of 1 MiB", "10,000 headers", "a request line of 1 MiB"])
async def test_a_client_that_speaks_first_and_listens_then_hears_its_answer(edge: Edge, name: str) -> None:
    """Bytes after the error are read and dropped for a while, because a reset would destroy the answer."""
    with open_socket(edge.port) as client:
        await asyncio.get_running_loop().sock_sendall(client, MALFORMED[name] + b"x" * 16 * MEBIBYTE)
        assert (await receive_all(client)).answers == [400]


async def test_what_is_malformed_leaves_nothing_in_memory(edge: Edge) -> None:
    """Thousands of them, each of the size that is read at once: not one stays until the collector finds it."""
    before = edge.resident_bytes
    for _ in range(40):
        sent = (talk(edge.port, b"A" * 16 * 1024 + b" \0 \r\n\r\n") for _ in range(50))
        assert [answer.answers for answer in await asyncio.gather(*sent)] == [[400]] * 50
    assert edge.resident_bytes - before < 8 * MEBIBYTE


@pytest.mark.parametrize("name", SERVED)
async def test_what_is_odd_but_clear_is_served(edge: Edge, name: str) -> None:
    """Each request gets one answer, its payload is stored as sent, and the next request is parsed correctly."""
    request, payload = SERVED[name]
    answer = await talk(edge.port, request + good(b"next") + LAST)
    assert answer.answers == [200, 200, 404]
    assert await edge.take_appended(2) == [payload, b"next"]
    assert await edge.takes_a_good_one()


@pytest.mark.parametrize(
    "upgrade",
    [
        (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA"),
        (b"Connection: Upgrade", b"Upgrade: websocket"),
        (b"Connection: Upgrade", b"Upgrade: TLS/1.0"),
    ],
)
async def test_an_upgrade_with_a_body_is_served_as_if_it_had_not_been_asked_for(
    edge: Edge, upgrade: tuple[bytes, ...]
) -> None:
    """200 and stored; then the connection is closed, because the next bytes could be of either protocol."""
    answer = await talk(edge.port, post(*upgrade, TEXT, body=b"hello") + good(b"smuggled"))
    assert answer.answers == [200]
    assert b"Connection: close" in answer.raw
    assert await edge.take_appended(1) == [b"hello"]
    assert await edge.takes_a_good_one()


@pytest.mark.parametrize(
    ("line", "status"), [(b"CONNECT x:443 HTTP/1.1", 404), (b"CONNECT /webhooks/dlr HTTP/1.1", 405)]
)
async def test_connect_is_refused_and_what_follows_is_no_request(edge: Edge, line: bytes, status: int) -> None:
    """A client that asks for a tunnel gets one answer; its bytes into the tunnel are not read as requests."""
    answer = await talk(edge.port, post(line=line) + good(b"smuggled"))
    assert answer.answers == [status]
    assert await edge.takes_a_good_one()


@pytest.mark.parametrize(
    "broken", [b"zzz\r\nhello\r\n0\r\n\r\n", b"5\r\nhello!!", b"-1\r\n", b"5\r\nhello\r\n0\r\nA\r\n\r\n"]
)
async def test_a_body_that_breaks_later_is_refused_at_once(edge: Edge, broken: bytes) -> None:
    """Its head, and a good chunk, had come in packets of their own: 400 all the same, without waiting for the rest."""
    answers: list[int] = []
    for _ in range(3):  # 503 if the machine stands still until the deadline of a body
        if answers != [400]:
            answers = (await talk(edge.port, post(CHUNKED), b"3\r\nabc\r\n", broken, b"more")).answers
    assert answers == [400]
    assert await edge.takes_a_good_one()


@pytest.mark.parametrize(
    "request_",
    [
        post(CHUNKED, body=b"5\r\nhel"),
        post(CHUNKED, body=b"5\r\nhello\r\n"),
        post(CHUNKED, body=b"7fffffffffffffff\r\nhello"),
        post(CHUNKED, body=b"5;" + b"a" * 100_000),
        post(TEXT, body=b"hell"),
    ],
)
async def test_a_body_without_end_is_given_up_at_its_deadline(edge: Edge, request_: bytes) -> None:
    """503, so that a real provider sends it again, and the connection is closed."""
    answer = await talk(edge.port, request_)
    assert answer.answers == [503]
    assert b"Retry-After: 5\r\n" in answer.raw
    assert b"Connection: close" in answer.raw
    assert await edge.takes_a_good_one()


@pytest.mark.parametrize("rest", [b"", b"hel"])
async def test_a_client_that_leaves_in_the_middle_leaves_nothing(edge: Edge, rest: bytes) -> None:
    """Half a head, or half a body: nothing is kept, nothing is said in the log."""
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(post(TEXT, body=rest) if rest else b"POST " + PATH)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await edge.takes_a_good_one()


async def test_garbage_behind_a_request_that_is_being_kept_does_not_hurt_it(edge: Edge) -> None:
    """The good one has its 200 and is on the stream; the garbage has its 400 and ends the connection."""
    async with edge.redis() as server:
        await server.execute_command("CLIENT PAUSE", 200, "WRITE")  # type: ignore[no-untyped-call]
    answer = await talk(edge.port, good(b"hello"), b"\0garbage\r\n\r\n")
    assert answer.answers == [200, 400]
    assert await edge.take_appended(1) == [b"hello"]


async def test_thousands_of_requests_on_one_connection(edge: Edge) -> None:
    """One answer each, in their order, while others are served; the memory does not grow with them."""
    number, every = 30_000, 100
    nowhere = post(line=b"GET / HTTP/1.1")
    requests = b"".join(good(b"%d" % n) if n % every == 0 else nowhere for n in range(number))
    await edge.takes_a_good_one()
    before = edge.resident_bytes
    talking = asyncio.create_task(talk(edge.port, requests + LAST))
    other_requests, peak = 0, before
    while not talking.done():
        assert (await talk(edge.port, good(b"other", b"Connection: close"))).answers == [200]
        other_requests, peak = other_requests + 1, max(peak, edge.resident_bytes)
    answers = (await talking).answers
    assert answers == [200 if n % every == 0 else 404 for n in range(number)] + [404]
    stored = await edge.take_appended(number // every + other_requests)
    assert set(stored) == {b"other", *(b"%d" % n for n in range(0, number, every))}
    assert len(stored) >= number // every + other_requests  # on a busy machine one may come twice, by the spool
    assert peak - before < 8 * MEBIBYTE


async def test_after_all_that_the_log_is_short(edge: Edge) -> None:
    """The log has no traceback, no internal error and nothing of the requests."""
    lines = edge.process.said.splitlines()
    assert len(lines) < 100  # on a busy machine a slow Redis is logged too
    assert not [line for line in lines if "Traceback" in line or '"ingest.failed"' in line or "hello" in line]
