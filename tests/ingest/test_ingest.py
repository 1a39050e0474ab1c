import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from yarl import URL

from ingest.metrics import BODY_BYTES
from ingest.settings import PATHS
from stream.entry import Entry
from stream.keys import Shard
from stream.probe import make_probe
from tests.support.in_process import Running, run_ingest
from tests.support.processes import becomes
from tests.support.samples.events import body


@pytest.fixture
async def ingest(valkey_url: str, shard: Shard) -> AsyncIterator[Running]:
    """Ingest on the shared server."""
    async with run_ingest(redis_url=valkey_url, stream=shard.name) as serving:
        yield serving


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def entries(server: Redis, shard: Shard) -> list[Entry]:
    entries: Any = await server.xrange(shard.stream)
    return [Entry.from_fields(fields) for _, fields in entries]


async def raw(port: int, request: bytes) -> bytes:
    """Send these bytes, and return all that comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("path", PATHS.split(","))
async def test_a_post_is_appended_byte_for_byte(
    ingest: Running, http: aiohttp.ClientSession, server: Redis, shard: Shard, path: str
) -> None:
    """On every path: 200 with an empty body; the entry has the raw bytes, type and query, and no trace of a sender."""
    payload = b"\xff\x00 not json \r\n"
    headers = {
        "Content-Type": "text/plain; x=y",
        "traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
    }
    url = URL(f"http://127.0.0.1:{ingest.port}{path}?tenant=a%20b&x", encoded=True)
    async with http.post(url, data=payload, headers=headers) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    (entry,) = await entries(server, shard)
    assert (entry.payload, entry.content_type, entry.query) == (payload, "text/plain; x=y", b"tenant=a%20b&x")
    assert (entry.traceparent, entry.verified) == (None, "none")


async def test_of_a_get_the_raw_query_is_the_payload(ingest: Running, server: Redis, shard: Shard) -> None:
    """Escapes, order and repetitions stay as they were sent."""
    request = b"GET /webhooks/dlr?b=%2f&a=1+2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert (await raw(ingest.port, request)).startswith(b"HTTP/1.1 200 OK\r\n")
    (entry,) = await entries(server, shard)
    assert entry.payload == b"b=%2f&a=1+2"
    assert (entry.content_type, entry.query) == ("application/x-www-form-urlencoded", None)


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/webhooks/dlr", {"data": b"{}"}, 400),
        ("POST", "/webhooks/dlr", {"data": b"x" * (128 * 1024 + 1)}, 413),
        ("POST", "/webhooks/dlr", {"data": gzip.compress(b"{}"), "headers": {"Content-Encoding": "gzip"}}, 415),
        ("POST", "/webhooks/dlr", {"data": b"{}", "headers": {"Content-Encoding": "br"}}, 415),
        ("PUT", "/webhooks/dlr", {"data": b"{}"}, 405),
        ("HEAD", "/webhooks/dlr?a=1", {}, 405),
        ("POST", "/", {"data": b"{}"}, 404),
    ],
)
async def test_what_is_no_webhook_is_refused_and_not_appended(
    ingest: Running,
    http: aiohttp.ClientSession,
    server: Redis,
    shard: Shard,
    method: str,
    path: str,
    options: Any,
    status: int,
) -> None:
    """Each refusal has its own status, and leaves nothing on the stream."""
    async with http.request(method, f"http://127.0.0.1:{ingest.port}{path}", **options) as answer:
        assert answer.status == status
        assert status != 405 or answer.headers["Allow"] == "GET,POST"
    assert await server.exists(shard.stream) == 0


async def test_a_body_without_a_length_is_cut_off_at_the_limit(ingest: Running, server: Redis, shard: Shard) -> None:
    """A chunked body over the limit is refused too."""
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    head = b"POST /webhooks/dlr HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await raw(ingest.port, head + 5 * chunk + b"0\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
    assert await server.exists(shard.stream) == 0


async def test_the_greatest_body_allowed_is_taken(
    ingest: Running, http: aiohttp.ClientSession, server: Redis, shard: Shard
) -> None:
    """The limit itself is still within."""
    payload = b"x" * (128 * 1024)
    async with http.post(ingest.url, data=payload) as answer:
        assert answer.status == 200
    assert [entry.payload for entry in await entries(server, shard)] == [payload]


async def test_200_comes_only_after_redis_has_confirmed(
    ingest: Running, http: aiohttp.ClientSession, server: Redis, shard: Shard
) -> None:
    """While the server holds its answers back no request is answered; then each one is."""

    async def post() -> int:
        async with http.post(ingest.url, data=body()) as answer:
            return answer.status

    await server.execute_command("CLIENT PAUSE", 400, "WRITE")  # type: ignore[no-untyped-call]
    posted = [asyncio.create_task(post()) for _ in range(5)]
    answered, _ = await asyncio.wait(posted, timeout=0.2)
    assert not answered
    assert await asyncio.gather(*posted) == [200] * 5
    assert len(await entries(server, shard)) == 5


async def test_many_requests_share_a_round_trip(
    ingest: Running, http: aiohttp.ClientSession, server: Redis, shard: Shard
) -> None:
    """Group commit: entries that wait while a batch is in flight share the next one, in one script call."""
    bodies = [body(message_uuid=f"m-{n}") for n in range(90)]

    async def post(data: bytes) -> int:
        async with http.post(ingest.url, data=data) as answer:
            return answer.status

    before = (await server.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await server.execute_command("CLIENT PAUSE", 10_000, "WRITE")  # type: ignore[no-untyped-call]
    answers = asyncio.gather(*map(post, bodies))
    await becomes(lambda: next(iter(BODY_BYTES.collect())).samples[0].value == sum(map(len, bodies)))
    await server.execute_command("CLIENT UNPAUSE")  # type: ignore[no-untyped-call]
    assert await answers == [200] * 90
    calls = (await server.info("commandstats"))["cmdstat_evalsha"]["calls"] - before
    assert calls <= 9
    assert len({entry.payload for entry in await entries(server, shard)}) == 90
    assert len({entry.receipt for entry in await entries(server, shard)}) == 90


async def test_a_server_that_forgot_its_scripts_is_told_them_again(
    ingest: Running, http: aiohttp.ClientSession, server: Redis, shard: Shard
) -> None:
    """SCRIPT FLUSH costs nobody a 503."""
    await server.script_flush()
    async with http.post(ingest.url, data=body()) as answer:
        assert answer.status == 200
    assert len(await entries(server, shard)) == 1


async def test_a_stop_answers_what_is_in_hand(valkey_url: str, shard: Shard, server: Redis) -> None:
    """Requests that wait for Redis when the stop comes are still confirmed and answered 200."""

    async def post(ingest: Running) -> int:
        async with aiohttp.ClientSession() as http, http.post(ingest.url, data=body()) as answer:
            return answer.status

    async with run_ingest(redis_url=valkey_url, stream=shard.name) as ingest:
        await server.execute_command("CLIENT PAUSE", 400, "WRITE")  # type: ignore[no-untyped-call]
        posted = [asyncio.create_task(post(ingest)) for _ in range(5)]
        await asyncio.wait(posted, timeout=0.1)
        ingest.stop.set()
        assert await asyncio.gather(*posted) == [200] * 5
    assert len(await entries(server, shard)) == 5


@pytest.mark.parametrize(
    ("request_line", "header", "answer"),
    [
        (b"HTTP/1.0", b"", b"HTTP/1.0 200 OK"),
        (b"HTTP/1.1", b"Connection: close\r\n", b"HTTP/1.1 200 OK"),
    ],
)
async def test_old_and_closing_clients_are_answered_in_their_way(
    ingest: Running, request_line: bytes, header: bytes, answer: bytes
) -> None:
    """The prepared answer is for HTTP/1.1 that stays open only; the others are answered and closed."""
    request = b"POST /webhooks/dlr %b\r\nHost: x\r\n%bContent-Length: 2\r\n\r\n{}" % (request_line, header)
    assert (await raw(ingest.port, request)).startswith(answer)


async def test_pipelined_requests_get_one_answer_each(ingest: Running, server: Redis, shard: Shard) -> None:
    """Ten requests in one packet: ten answers on the same connection, ten entries in their order."""
    requests = [b"POST /webhooks/dlr HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d" % n for n in range(10)]
    last = b"POST /webhooks/dlr HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
    answer = await raw(ingest.port, b"".join(requests) + last)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 11
    assert [entry.payload for entry in await entries(server, shard)] == [*(b"%d" % n for n in range(10)), b"x"]


async def test_health_and_metrics_are_on_their_own_port(ingest: Running, http: aiohttp.ClientSession) -> None:
    """/live, /ready and /metrics answer there; the webhooks' port does not have them."""
    async with http.post(ingest.url, data=body()) as answer:
        assert answer.status == 200
    base = ingest.ready_url.removesuffix("/ready")
    for path, expected in (("live", "live\n"), ("ready", "ready\n")):
        async with http.get(f"{base}/{path}") as answer:
            assert (answer.status, await answer.text()) == (200, expected)
    async with http.get(f"{base}/metrics") as answer:
        assert 'ackstream_webhooks_total{answer="200"}' in await answer.text()
    async with http.get(f"http://127.0.0.1:{ingest.port}/metrics") as answer:
        assert answer.status == 404


async def test_only_the_payload_of_a_probe_is_marked(
    ingest: Running, http: aiohttp.ClientSession, server: Redis, shard: Shard
) -> None:
    """The entry of a self-test has the field `probe`; a status that has the same name in it is stored as ever."""
    probe = "0123456789abcdef" * 2
    for payload in (make_probe(probe), body(ackstream_probe=probe), make_probe(probe) + b" "):
        async with http.post(ingest.url, data=payload) as answer:
            assert answer.status == 200

    assert [entry.probe for entry in await entries(server, shard)] == [probe, None, None]
