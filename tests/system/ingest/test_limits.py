"""The limits of one client, each against a real process with short deadlines."""

import asyncio
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
import pytest
from redis.asyncio import Redis

from ingest.http.connection import LINGER_SECONDS
from ingest.http.connections import Connections, ListenerLost
from ingest.metrics import CONNECTIONS_CLOSED
from stream.keys import Shard
from tests.support.http.raw_http import LAST, Edge, Heard, good, open_socket, post, receive_all, run_for_module, talk
from tests.support.processes import ackstream, becomes
from tests.support.waiting import until

CLIENT_SECONDS, BODY_SECONDS = 1.0, 2.0
pytestmark = pytest.mark.one_process("limits")  # its tests share a process of ingest

SLACK_SECONDS = 4.0  # between a deadline and being cut off, on a machine that has other things to do
EARLY_SECONDS = 0.1  # a loop reads its clock once per turn, and sets timers relative to that time
CLOSED = "ackstream_connections_closed_total"
KIBIBYTE = 1024
BODY = post(b"Content-Length: 5", body=b"h")


@pytest.fixture(scope="module")
def edge(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    settings = {"client_seconds": str(CLIENT_SECONDS), "body_seconds": str(BODY_SECONDS), "grace_seconds": "1"}
    yield from run_for_module(Edge(tmp_path_factory.mktemp("limits"), valkey_url, Shard("test-limits"), **settings))


async def count_closed(edge: Edge, why: str) -> float:
    return (await edge.metrics()).get((CLOSED, why), 0)


@pytest.mark.parametrize(("sent", "then"), [(b"P", b""), (b"POST /webhooks/dlr HTTP/1.1\r\nHost: x\r\nA: b", b"x")])
async def test_a_client_has_so_long_for_a_whole_head(edge: Edge, sent: bytes, then: bytes) -> None:
    """One that stops in its first head, or that drips, is cut off without an answer, and counted."""
    before, began = await count_closed(edge, "head"), time.monotonic()
    with open_socket(edge.port) as connection:
        task = asyncio.create_task(drip(connection, sent, then))
        assert (await receive_all(connection)).raw == b""
        await task
    assert CLIENT_SECONDS - EARLY_SECONDS <= time.monotonic() - began < CLIENT_SECONDS + SLACK_SECONDS
    assert await count_closed(edge, "head") == before + 1
    assert await edge.takes_a_good_one()


async def drip(connection: socket.socket, first: bytes, then: bytes) -> None:
    """Send the one, then again and again the other, until the connection is cut off."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        await loop.sock_sendall(connection, first)
        while then:
            await asyncio.sleep(0.1)
            await loop.sock_sendall(connection, then)


async def test_between_requests_a_connection_may_be_idle_but_not_half_a_head_long(edge: Edge) -> None:
    """An idle connection may exceed the deadline; the time starts at the first byte of the next head."""
    loop = asyncio.get_running_loop()
    with open_socket(edge.port) as connection:
        await loop.sock_sendall(connection, good(b"first"))
        assert b" 200 OK" in await loop.sock_recv(connection, 1000)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive_all(connection), 2 * CLIENT_SECONDS)
        await loop.sock_sendall(connection, good(b"second"))
        assert b" 200 OK" in await loop.sock_recv(connection, 1000)
        began = time.monotonic()
        await loop.sock_sendall(connection, good(b"third")[:30])
        assert (await receive_all(connection)).raw == b""
    assert CLIENT_SECONDS - EARLY_SECONDS <= time.monotonic() - began < CLIENT_SECONDS + SLACK_SECONDS
    assert await edge.take_appended(2) == [b"first", b"second"]


async def test_a_head_in_many_pieces_may_not_grow(edge: Edge) -> None:
    """Each line is within its limit, all of them are not: cut off long before the deadline."""
    line, before, sent = b"A: " + b"x" * 7 * KIBIBYTE + b"\r\n", await count_closed(edge, "head"), 0
    with open_socket(edge.port) as connection, suppress(ConnectionError):
        await asyncio.get_running_loop().sock_sendall(connection, post()[:-2])
        while sent < 100:
            await asyncio.get_running_loop().sock_sendall(connection, line)
            await asyncio.sleep(0.02)  # so that they do not arrive as one
            sent += 1
    assert sent < 20
    assert await count_closed(edge, "head") == before + 1


async def test_a_body_has_its_own_deadline(edge: Edge) -> None:
    """503 with Retry-After at the deadline, however it drips; closed at once, and counted."""
    before, began = await count_closed(edge, "body"), time.monotonic()
    with open_socket(edge.port) as connection:
        task = asyncio.create_task(drip(connection, post(b"Content-Length: 100000"), b"x"))
        first = await asyncio.get_running_loop().sock_recv(connection, 1)
        answered = time.monotonic()
        answer = Heard(first + (await receive_all(connection)).raw)
        await task
    assert BODY_SECONDS - EARLY_SECONDS <= answered - began < BODY_SECONDS + SLACK_SECONDS
    assert time.monotonic() - answered < LINGER_SECONDS - 0.5
    assert answer.answers == [503]
    assert b"Retry-After: 5" in answer.raw
    assert await count_closed(edge, "body") == before + 1
    assert await edge.takes_a_good_one()


async def test_a_slow_body_within_its_deadline_is_kept(edge: Edge) -> None:
    """Three packets, some time apart: 200 and whole."""
    assert (await talk(edge.port, post(b"Content-Length: 9"), b"one", b"two", b"six", LAST)).answers == [200, 404]
    assert await edge.take_appended(1) == [b"onetwosix"]


@pytest.mark.parametrize("request_", [good(b"hello"), post(line=b"GET / HTTP/1.1"), b"garbage\r\n\r\n"])
async def test_a_client_that_takes_no_answer_is_cut_off(edge: Edge, request_: bytes) -> None:
    """The requests of a client that reads nothing wait in its own buffers; then ingest gives up the connection."""
    before, memory = await count_closed(edge, "answer"), edge.resident_bytes
    loop = asyncio.get_running_loop()
    with open_socket(edge.port, buffer_bytes=2 * KIBIBYTE) as connection:
        with suppress(ConnectionError):
            while True:
                await asyncio.wait_for(loop.sock_sendall(connection, request_ * 1000), 10)
        assert edge.resident_bytes - memory < 4 * KIBIBYTE * KIBIBYTE
    if request_ != b"garbage\r\n\r\n":  # whose one answer fits, and which is closed for itself
        assert await count_closed(edge, "answer") == before + 1
    await edge.take_appended()
    assert await edge.takes_a_good_one()


@pytest.mark.parametrize(
    ("expected", "head"),
    [
        ([100, 200], post(b"Expect: 100-continue", b"Content-Length: 5")),
        ([100, 200], post(b"Expect: 100-Continue", b"Content-Length: 5")),
        ([200], post(b"Expect: something", b"Content-Length: 5")),
        ([413], post(b"Expect: 100-continue", b"Content-Length: 500000")),
        ([415], post(b"Expect: 100-continue", b"Content-Length: 5", b"Content-Encoding: gzip")),
        ([404], post(b"Expect: 100-continue", b"Content-Length: 5", line=b"POST / HTTP/1.1")),
        ([405], post(b"Expect: 100-continue", b"Content-Length: 5", line=b"PUT /webhooks/dlr HTTP/1.1")),
    ],
)
async def test_a_client_that_asks_first_is_told(edge: Edge, expected: list[int], head: bytes) -> None:
    """100 if the body is wanted, else the refusal alone, and the connection ends there."""
    is_stored = expected[-1] == 200
    loop, asked = asyncio.get_running_loop(), b""
    with open_socket(edge.port) as connection:
        await loop.sock_sendall(connection, head)
        if expected[0] == 100:  # a body that arrives with its head needs no such answer
            asked = await loop.sock_recv(connection, 1000)
        if is_stored:
            await loop.sock_sendall(connection, b"hello" + LAST)
        answer = Heard(asked + (await receive_all(connection)).raw)
    assert answer.answers == expected + [404] * is_stored
    assert b"\r\nConnection: close\r\n" in answer.raw
    assert await edge.take_appended(is_stored) == [b"hello"] * is_stored


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (200, [b"identity"]),
        (200, [b" Identity \t"]),
        (200, [b"identity, IDENTITY"]),
        (200, [b""]),
        (200, [b"identity", b"identity"]),
        (415, [b"gzip"]),
        (415, [b"identity, gzip"]),
        (415, [b"identity", b"br"]),
        (415, [b"X-GZIP"]),
        (415, [b"zstd"]),
        (200, [b"utf-8"]),
        (200, [b"UTF-8, aws-chunked"]),
        (200, [b"x-identity"]),
        (200, [b"\xff"]),
    ],
)
async def test_only_a_compressed_body_is_refused(edge: Edge, answer: int, lines: list[bytes]) -> None:
    """A Content-Encoding that names a compression is 415 and not stored; any other word is ignored."""
    request = good(b"hello", *[b"Content-Encoding: " + line for line in lines])
    assert (await talk(edge.port, request + LAST)).answers == [answer, 404]
    assert await edge.take_appended(answer == 200) == [b"hello"] * (answer == 200)


async def fills(edge: Edge, size: int) -> bool:
    return (await edge.metrics())["ackstream_body_bytes", ""] == size


async def test_all_bodies_together_have_a_limit(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """Eight bodies of nearly 8 MiB fill the 64 MiB: a ninth and a chunked one get 503, a small one is accepted."""
    limit = 8 * KIBIBYTE * KIBIBYTE
    edge = Edge(tmp_path, valkey_url, shard, max_body=str(limit), body_seconds="5")
    head, part = post(b"Content-Length: %d" % limit), b"x" * (limit - 2 * KIBIBYTE)
    chunk = b"4000\r\n" + b"x" * 16 * KIBIBYTE + b"\r\n"
    chunked = post(b"Transfer-Encoding: chunked", body=chunk * 2 + b"0\r\n\r\n")
    async with edge.run():
        idle = [asyncio.create_task(talk(edge.port, head)) for _ in range(100)]  # announced is not taken
        full = [asyncio.create_task(talk(edge.port, head + part)) for _ in range(8)]
        await until(lambda: fills(edge, 8 * len(part)))
        began = time.monotonic()
        assert (await talk(edge.port, head)).answers == [503]
        refused = await talk(edge.port, chunked + LAST)
        assert refused.answers in ([503], [503, 404])
        assert b"Retry-After" in refused.raw
        assert await edge.takes_a_good_one(b"small")
        assert time.monotonic() - began < 5  # so none of them has waited for a deadline
        assert [answer.answers for answer in await asyncio.gather(*idle, *full)] == [[503]] * 108
        assert (await talk(edge.port, good(b"y" * limit) + LAST)).answers == [200, 404]
        assert edge.resident_bytes < 256 * KIBIBYTE * KIBIBYTE


async def becomes_long(server: Redis, stream: str, entries: int) -> None:
    async def is_long() -> bool:
        return await server.xlen(stream) >= entries

    await until(is_long)


async def test_requests_sent_ahead_wait_outside(edge: Edge) -> None:
    """While one of a client's requests waits for Redis, the next ones are left in the kernel, bodies and all."""
    before, requests = edge.resident_bytes, good(b"x" * 28 * KIBIBYTE) * 40
    async with edge.redis() as server:
        await server.execute_command("CLIENT PAUSE", 2000, "WRITE")  # type: ignore[no-untyped-call]
    sending, peak = [asyncio.create_task(talk(edge.port, requests + LAST)) for _ in range(60)], before
    while not all(task.done() for task in sending):
        peak = max(peak, edge.resident_bytes)
        await asyncio.wait(sending, timeout=0.05)
    assert [task.result().answers for task in sending] == [[200] * 40 + [404]] * 60
    assert peak - before < 32 * KIBIBYTE * KIBIBYTE
    async with edge.redis() as server:
        await becomes_long(server, edge.shard.stream, 60 * 40)
        await server.delete(edge.shard.stream)


async def test_one_more_connection_always_gets_in(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """A client with all connections loses the oldest ones to new clients; a connection with a stored webhook stays."""
    edge, loop = Edge(tmp_path, valkey_url, shard, connections="20"), asyncio.get_running_loop()
    async with edge.run():
        holding: list[asyncio.Task[Heard]] = []
        with open_socket(edge.port) as useful:
            for n in range(20):
                await loop.sock_sendall(useful, good(b"%d" % n))
                assert b" 200 OK" in await loop.sock_recv(useful, 1000)
                holding += [asyncio.create_task(talk(edge.port, b"POST ")) for _ in range(10)]
                assert (await talk(edge.port, good(b"new", b"Connection: close"))).answers == [200]
            await becomes(lambda: sum(task.done() for task in holding) >= 180)
            metrics = await edge.metrics()
            assert metrics["ackstream_connections", ""] <= 20
            assert metrics[CLOSED, "room"] >= 180
        for task in holding:
            task.cancel()
        await asyncio.wait(holding)
    assert len(await edge.take_appended(40)) == 40


async def test_without_descriptors_it_waits_in_silence(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """More connections than files it may open: no spinning, no flood of lines, and well again when they are gone."""
    edge = Edge(tmp_path, valkey_url, shard)
    async with edge.run():
        process = psutil.Process(edge.process.child.pid)
        files = process.num_fds() + 20
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (files, files))
        before = sum(process.cpu_times()[:2])
        holding = [asyncio.create_task(talk(edge.port, b"POST ")) for _ in range(300)]
        await becomes(lambda: sum(task.done() for task in holding) > 200)
        await asyncio.sleep(1)  # a busy loop would use a second of CPU time now
        assert sum(process.cpu_times()[:2]) - before < 0.8
        for task in holding:
            task.cancel()
        await asyncio.wait(holding)
        await until(edge.takes_a_good_one)
        assert len(edge.process.said.splitlines()) < 20


async def test_without_the_parser_in_c_it_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence and exit code 1, not a slower and laxer server."""
    monkeypatch.setenv("AIOHTTP_NO_EXTENSIONS", "1")
    with ackstream("ingest", folder=tmp_path, signatures="off", port="0", admin_port="0") as process:
        assert await process.wait_for_end(30) == 1
        assert "parser in C" in process.said
        assert "Traceback" not in process.said


async def test_a_listener_that_is_gone_ends_the_process_aloud() -> None:
    """A socket that takes no connections, though nobody closed it, raises what ends the process."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, start_serving=False)
    with pytest.raises(ListenerLost):
        await asyncio.wait_for(Connections(1, 1, 1, CONNECTIONS_CLOSED).watch(server), 10)
    server.close()
    await server.wait_closed()
