"""How connections are timed, bounded and closed, on a real process over raw sockets."""

import asyncio
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
import pytest

from ingest.http.server import check_listener
from runtime.errors import CommandError
from stream.keys import Shard
from tests.support.http.raw_http import LAST, Edge, good, open_socket, post, receive_all, run_for_module, talk
from tests.support.processes import answer, becomes
from tests.support.samples.signed import SECRETS
from tests.support.waiting import until

CLIENT_SECONDS, KEEPALIVE_SECONDS = 0.5, 2.0
pytestmark = pytest.mark.one_process("http_connections")  # its tests share a process of ingest

SLACK_SECONDS = 4.0
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def edge(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    settings = {"client_seconds": str(CLIENT_SECONDS), "keepalive_seconds": str(KEEPALIVE_SECONDS)}
    yield from run_for_module(
        Edge(tmp_path_factory.mktemp("connections"), valkey_url, Shard("test-connections"), **settings)
    )


async def test_a_connection_on_which_nothing_has_come_is_idle_not_late(edge: Edge) -> None:
    """A client that connects ahead of time may send its first request after the deadline of a head."""
    answers: list[int] = []
    while not answers:  # none if a stall of the machine made the connection idle for too long
        with open_socket(edge.port) as client:
            began = time.monotonic()
            await becomes(lambda: time.monotonic() - began > 2 * CLIENT_SECONDS)  # noqa: B023 - read in this turn
            await asyncio.get_running_loop().sock_sendall(client, good(b"late", b"Connection: close"))
            answers = (await receive_all(client)).answers
            assert answers or time.monotonic() - began > KEEPALIVE_SECONDS
    assert answers == [200]
    assert set(await edge.take_appended(1)) == {b"late"}


@pytest.mark.parametrize("first", [b"", good(b"first")])
async def test_an_idle_connection_ends_after_the_keep_alive_time(edge: Edge, first: bytes) -> None:
    """Without an answer and without a reset, whether or not a request had come by it."""
    loop = asyncio.get_running_loop()
    with open_socket(edge.port) as client:
        began = time.monotonic()
        if first:
            await loop.sock_sendall(client, first)
            assert b" 200 OK" in await loop.sock_recv(client, 1000)
            await loop.sock_sendall(client, b"\r\n")  # a blank line starts no request
        assert await asyncio.wait_for(loop.sock_recv(client, 1000), KEEPALIVE_SECONDS + SLACK_SECONDS) == b""
    assert time.monotonic() - began > KEEPALIVE_SECONDS - 0.1
    await edge.take_appended(bool(first))


async def test_a_request_that_crosses_with_the_close_of_its_connection_is_stored(edge: Edge) -> None:
    """The client sees the end of the connection, not a reset; if it does not send again, nothing is lost."""
    loop, stored = asyncio.get_running_loop(), list[bytes]()
    for _ in range(3):  # ingest waits LINGER_SECONDS for it; a stall of the machine can last longer
        with open_socket(edge.port) as client, suppress(TimeoutError):
            assert await asyncio.wait_for(loop.sock_recv(client, 1000), KEEPALIVE_SECONDS + SLACK_SECONDS) == b""
            with suppress(ConnectionError):
                await loop.sock_sendall(client, good(b"crossed"))
            async with asyncio.timeout(SLACK_SECONDS):
                stored = await edge.take_appended(1)
                break
    assert stored == [b"crossed"]


@pytest.mark.parametrize("requests", [good(b"hello"), good(b"hello") * 3])
async def test_a_client_that_half_closes_after_its_requests_is_answered(edge: Edge, requests: bytes) -> None:
    """As `nc -N` does: every request has its answer, then the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(requests)
    writer.write_eof()

    answered = await asyncio.wait_for(reader.read(), SLACK_SECONDS)

    writer.close()
    number = requests.count(b"hello")
    assert answered.count(b"HTTP/1.1 200 OK") == number
    assert await edge.take_appended(number) == [b"hello"] * number


async def test_requests_sent_ahead_are_answered_whatever_came_before(edge: Edge) -> None:
    """Also after many requests whose bodies came after their heads, by which aiohttp's count of its queue is wrong."""
    loop, number = asyncio.get_running_loop(), 40
    with open_socket(edge.port) as client:
        for _ in range(number):
            await loop.sock_sendall(client, post(b"Content-Length: 5"))
            await asyncio.sleep(0.002)  # so that they do not arrive as one
            await loop.sock_sendall(client, b"hello")
            assert b" 200 OK" in await loop.sock_recv(client, 1000)
        await loop.sock_sendall(client, post(line=b"GET /nowhere HTTP/1.1") * 100 + LAST)
        assert (await asyncio.wait_for(receive_all(client), KEEPALIVE_SECONDS)).answers == [404] * 101
    await edge.take_appended(number)


async def test_large_requests_sent_ahead_are_all_answered(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """At any speed of the answers, bytes that wait before a request starts do not count as an endless head."""
    many = good(b"x" * 28 * 1024) * 40 + LAST
    edge = Edge(tmp_path, valkey_url, shard, signatures="required", signature_secrets=SECRETS)

    async with edge.run():
        answers = [reply.answers for reply in await asyncio.gather(*(talk(edge.port, many) for _ in range(20)))]

    assert answers == [[503] * 40 + [404]] * 20


async def test_a_head_may_not_grow_while_a_request_is_in_flight(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """While Redis confirms a webhook, its client sends an endless head: that costs a bounded share of memory."""
    edge, line, number = Edge(tmp_path, valkey_url, shard), b"A: " + b"x" * 8000 + b"\r\n", 60

    async def flood() -> None:
        with open_socket(edge.port) as client:
            await asyncio.get_running_loop().sock_sendall(client, good(b"hello"))
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.get_running_loop().sock_sendall(client, post()[:-2] + line * 60)
                    await receive_all(client)

    async with edge.run(), edge.redis() as server:
        assert await edge.takes_a_good_one()
        before = peak = edge.resident_bytes
        await server.execute_command("CLIENT PAUSE", 2000, "WRITE")  # type: ignore[no-untyped-call]
        floods = [asyncio.create_task(flood()) for _ in range(number)]
        while not all(task.done() for task in floods):
            peak = max(peak, edge.resident_bytes)
            await asyncio.wait(floods, timeout=0.02)
        assert await edge.take_appended(number) == [b"hello"] * number

    assert peak - before < number * 160 * 1024


async def test_a_stop_answers_a_request_whose_body_is_still_arriving(
    valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """SIGTERM in the middle of a body: the rest is read, stored and answered 200, then the process ends."""
    edge, loop = Edge(tmp_path, valkey_url, shard), asyncio.get_running_loop()
    async with edge.run():
        with open_socket(edge.port) as client, open_socket(edge.port) as idle:
            await loop.sock_sendall(client, post(b"Content-Length: 9", body=b"half"))
            await until(edge.takes_a_good_one)
            edge.process.send(signal.SIGTERM)
            assert await asyncio.wait_for(loop.sock_recv(idle, 1000), SLACK_SECONDS) == b""
            await loop.sock_sendall(client, b" more")
            assert (await receive_all(client)).answers == [200]
        assert await edge.process.wait_for_end(SLACK_SECONDS) == 0
    assert await edge.take_appended(1) == [b"half more"]


async def test_the_admin_port_keeps_few_connections(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """A client with hundreds of them neither uses up the open-file limit nor blocks a probe."""
    edge = Edge(tmp_path, valkey_url, shard)
    async with edge.run():
        process = psutil.Process(edge.process.child.pid)
        files = process.num_fds()
        holding = [asyncio.create_task(talk(edge.admin_port, b"GET ")) for _ in range(200)]
        await becomes(lambda: sum(task.done() for task in holding) >= 160, seconds=60)
        assert process.num_fds() < files + 50
        assert await answer(f"http://127.0.0.1:{edge.admin_port}/live") == 200
        assert await edge.takes_a_good_one()
        for task in holding:
            task.cancel()
        await asyncio.wait(holding)


async def test_without_descriptors_the_admin_port_ends_nothing(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """Without a free descriptor for a connection the process keeps running."""
    edge = Edge(tmp_path, valkey_url, shard)
    async with edge.run():
        process = psutil.Process(edge.process.child.pid)
        files = process.num_fds() + 5
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (files, files))
        holding = [asyncio.create_task(talk(edge.admin_port, b"GET ")) for _ in range(100)]
        await becomes(lambda: sum(task.done() for task in holding) > 50)
        for task in holding:
            task.cancel()
        await asyncio.wait(holding)
        await until(edge.takes_a_good_one)


@pytest.mark.parametrize("answered", [b"", b"HTTP/1.1 500 Internal Server Error\r\n\r\n", LAST])
async def test_a_port_that_does_not_answer_as_it_must_stops_the_start(answered: bytes) -> None:
    """The process says so in a sentence that names aiohttp's version, and never reports that it is ready."""

    async def respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answered)
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        with pytest.raises(CommandError, match=r"aiohttp 3\."):
            await check_listener(server)
